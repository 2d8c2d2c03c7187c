import pytest
from networks import NARROW, THIN, assert_close, assert_same, narrow, pictures, shake

from gluon_ran.models import get_model

from mxnet import gluon


def test_saved_parameters_give_the_same_network(tmp_path):
    net = narrow()
    shake(net)
    path = str(tmp_path / "net.params")
    net.save_parameters(path)
    other = get_model(THIN, **NARROW)
    other.load_parameters(path)
    x = pictures()
    assert_same(other(x), net(x))


@pytest.mark.filterwarnings("ignore:Cannot decide type:UserWarning")
@pytest.mark.parametrize(
    "name, size", [(THIN, (32, 32)), (THIN, (40, 64)), ("attention56", (64, 64))]
)
def test_an_exported_network_gives_the_same(name, size, tmp_path):
    net = get_model(name)
    net.initialize()
    if name == THIN:
        shake(net)
    net.hybridize()
    x = pictures(*size)
    y = net(x)
    net.export(str(tmp_path / "net"), epoch=7)
    loaded = gluon.SymbolBlock.imports(
        str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0007.params")
    )
    assert_close(loaded(x), y)
