"""Training: recipes, the loop, evaluation, checkpoints and run directories."""

from gluon_ran.training.checkpoint import load_weights
from gluon_ran.training.devices import KVSTORES, check_kvstore, make_contexts
from gluon_ran.training.distributed import ALONE, Group, end_with, join
from gluon_ran.training.epoch import TrainingDiverged
from gluon_ran.training.evaluation import Evaluation, evaluate
from gluon_ran.training.history import EpochResult, History
from gluon_ran.training.loop import fit
from gluon_ran.training.manifest import CheckpointError
from gluon_ran.training.muon import Muon
from gluon_ran.training.precision import check_dtype, training_graph
from gluon_ran.training.recipe import RECIPES, Recipe, get_recipe, lr_at
from gluon_ran.training.run import RunDirectory, RunError
from gluon_ran.training.targets import mixup, soft_targets
from gluon_ran.training.trained import Trained, find_trained

__all__ = [
    "ALONE",
    "KVSTORES",
    "RECIPES",
    "CheckpointError",
    "EpochResult",
    "Group",
    "Evaluation",
    "History",
    "Muon",
    "Recipe",
    "RunDirectory",
    "RunError",
    "Trained",
    "TrainingDiverged",
    "check_dtype",
    "check_kvstore",
    "end_with",
    "evaluate",
    "find_trained",
    "fit",
    "get_recipe",
    "join",
    "load_weights",
    "lr_at",
    "make_contexts",
    "mixup",
    "soft_targets",
    "training_graph",
]
