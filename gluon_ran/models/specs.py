"""The table of networks: a Spec each, with its source."""

from __future__ import annotations

from dataclasses import replace

from gluon_ran.models.spec import Spec

DEPTHS = (56, 92, 128, 164, 236, 452)
_MODULES = {
    56: (1, 1, 1),
    92: (1, 2, 3),
    128: (3, 3, 3),
    164: (4, 4, 4),
    236: (6, 6, 6),
    452: (6, 6, 6),
}
_THIN_MODULES = {**_MODULES, 92: (2, 2, 2)}
_PTR_452 = {"p": 2, "t": 4, "r": 3}


def _imagenet(depth: int) -> Spec:
    return Spec(
        name=f"attention{depth}",
        source="arXiv 1704.06904 table 2, the authors' Caffe definitions; beyond 92 by 36 m + 20",
        stem="imagenet",
        stem_width=64,
        widths=(256, 512, 1024, 2048),
        strides=(1, 2, 2, 2),
        modules=_MODULES[depth] + (0,),
        mask_depths=(3, 2, 1, 0),
        units_before=(1, 1, 1, 3),
        units_after=(0, 0, 0, 0),
        **(_PTR_452 if depth == 452 else {}),
    )


def _cifar_wide(depth: int) -> Spec:
    return replace(
        _imagenet(depth),
        name=f"cifar_attention{depth}",
        source="earlier Gluon port (haoxintong): the ImageNet network at half width, CIFAR stem",
        stem="cifar",
        stem_width=32,
        widths=(128, 256, 512, 1024),
        classes=10,
    )


def _cifar_thin(depth: int) -> Spec:
    return Spec(
        name=f"cifar_attention{depth}_thin",
        source="arXiv 1704.06904 table 4: layout inferred from its parameter counts (1.9M, 5.1M)",
        stem="cifar",
        stem_width=16,
        widths=(64, 128, 256),
        strides=(1, 2, 2),
        modules=_THIN_MODULES[depth],
        mask_depths=(3, 2, 1),
        units_before=(1, 1, 1),
        units_after=(1, 1, 1),
        classes=10,
        **(_PTR_452 if depth == 452 else {}),
    )


def _cifar_preresnet(depth: int) -> Spec:
    units = (depth - 2) // 9
    return replace(
        _cifar_thin(56),
        name=f"cifar_preresnet{depth}",
        source="arXiv 1603.05027: pre-activation ResNet; the paper compares with 164 layers",
        modules=(0, 0, 0),
        mask_depths=(0, 0, 0),
        units_before=(units,) * 3,
        units_after=(0, 0, 0),
    )


def _with_unit(base: Spec, name: str, unit: str, source: str) -> Spec:
    return replace(base, name=name, unit=unit, source=source)


_NEXT = "the authors' Caffe definitions (fwang91/residual-attention-network)"
_INCEPTION = "arXiv 1704.06904 table 6 gives the budget; the unit is ours, see InceptionUnit"

_COMPACT = Spec(
    name="cifar_attention_compact",
    source="a student re-implementation's layout; mask depths down to 4x4 planes, ours",
    stem="compact",
    stem_width=32,
    widths=(128, 256, 1024),
    strides=(1, 2, 2),
    modules=(1, 1, 0),
    mask_depths=(2, 1, 0),
    units_before=(1, 1, 3),
    units_after=(0, 0, 0),
    classes=10,
    dropout=0.5,
)

SPECS: dict[str, Spec] = {
    spec.name: spec
    for spec in (
        *(make(depth) for make in (_imagenet, _cifar_wide, _cifar_thin) for depth in DEPTHS),
        *(_with_unit(_imagenet(n), f"attentionnext{n}", "resnext", _NEXT) for n in (56, 92)),
        _with_unit(_imagenet(56), "attentioninception56", "inception", _INCEPTION),
        *(
            _with_unit(
                _cifar_wide(n), f"cifar_attentionnext{n}", "resnext",
                f"cifar_attention{n} with the unit of attentionnext{n}",
            )
            for n in (56, 92)
        ),
        _with_unit(
            _cifar_wide(56), "cifar_attentioninception56", "inception",
            "cifar_attention56 with the unit of attentioninception56",
        ),
        _COMPACT,
        *(_cifar_preresnet(depth) for depth in (56, 164)),
    )
}  # fmt: skip


def list_models() -> list[str]:
    """Names that `get_model` builds."""
    return list(SPECS)
