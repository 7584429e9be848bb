"""Names that a setting may take, each of them a place in some module; a user's own module is named the same way.

    --network=flying_shapes            a name from `NETWORKS`
    --network=my_package.my_module:my_network

Nothing is imported before it is asked for.
"""

import pkgutil
from typing import Any

from nem_tf.errors import UserError


class Registry:
    """Names of one kind of thing.

    Arguments:
        setting: the flag that takes such a name.
        places: name -> "module:attribute".
    """

    def __init__(self, setting: str, places: dict[str, str]):
        self.setting = setting
        self._places = dict(places)

    def register(self, name: str, place: str) -> None:
        """Adds a name; `place` is "module:attribute".

        Raises:
            ValueError: the name is taken, or the place is not of that form.
        """
        if name in self._places or not _is_place(place):
            raise ValueError(f"expected a new name and module:attribute, received {name!r} and {place!r}")
        self._places[name] = place

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._places)

    def knows(self, name: str) -> bool:
        """Tells whether it is one of the names, or the place of one: nothing that only a file knows of."""
        return name in self._places or name in self._places.values()

    def check(self, name: str) -> None:
        """Refuses what is neither a name nor a place, without importing anything.

        Raises:
            UserError: `name` is neither.
        """
        if name not in self._places and not _is_place(name):
            raise UserError(
                f"--{self.setting}={name} is unknown: expected {', '.join(self._places)}, or module:attribute"
            )

    def load(self, name: str) -> Any:
        """Imports and returns what a name or a place stands for.

        Raises:
            UserError: there is no such name, module or attribute, the module cannot be imported, or it is nothing that
                can be called.
        """
        self.check(name)
        try:
            found = pkgutil.resolve_name(self._places.get(name, name))
        except Exception as error:  # a module of one's own may raise anything
            raise UserError(f"--{self.setting}={name} cannot be loaded: {error}") from error
        if not callable(found):
            raise UserError(f"--{self.setting}={name} is {found!r:.60}: expected a function or a class")
        return found


def _is_place(text: str) -> bool:
    module, colon, attribute = text.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


# A network is a function (image_shape, mixture, dtype, **of the cell) -> EMCell; one that takes actions has nr_actions.
NETWORKS = Registry(
    "network",
    {
        name: f"nem_tf.layers.networks:{name}"
        for name in (
            "flying_shapes", "flying_mnist", "convolutional", "static_rnn_em", "static_n_em", "balls_rnn_em",
            "balls_r_nem", "balls_r_nem_no_attention", "balls_lstm", "space_invaders_r_nem",
        )
    },
)  # fmt: skip
# A mixture is a `SpatialMixture` class, called with those of e_sigma and prior that it takes.
MIXTURES = Registry(
    "mixture",
    {"bernoulli": "nem_tf.layers.mixture:BernoulliMixture", "gaussian": "nem_tf.layers.mixture:GaussianMixture"},
)
# A noise is a layer class, called with the rate; the layer is called with frames and seed.
NOISES = Registry(
    "noise",
    {"bitflip": "nem_tf.layers.noise:BitflipNoise", "masked_uniform": "nem_tf.layers.noise:MaskedUniformNoise"},
)
