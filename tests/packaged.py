"""Whether trained weights are as good as their card says."""

from gluon_ran.data import Batches
from gluon_ran.models import find_pretrained, get_model, read_card
from gluon_ran.training import evaluate


def assert_as_good_as_told(name, test, root=None):
    """Whether so many of the first pictures are got right as the card says."""
    card = read_card(find_pretrained(name, root))
    told = card.training["measured"]
    net = get_model(name, pretrained=True, root=root)
    net.hybridize(static_alloc=True)
    first = test.subset(slice(told["first_pictures"]))
    result = evaluate(net, Batches(first, 100, card.normalization))
    # Rounding is other on other machines, and decides about pictures on the border.
    assert abs(result.top1 * result.count - told["first_right"]) <= 2
    assert told["pictures"] == len(test)
