"""Hydra's composition of a run's settings, with hale's recipes on the search path."""

from collections.abc import Sequence

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hale.errors import HaleError
from hale.settings import conf_dir, recipe

recipe.register()


def compose(overrides: Sequence[str]) -> DictConfig:
    """The settings of a run, its ``hydra`` node included, as ``hale.run`` would have them.

    Raises:
        HaleError: Hydra refuses an override.
    """
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="hale"):
            cfg = hydra_compose("config", list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise HaleError(" ".join(line.strip() for line in str(error).splitlines())) from None
    HydraConfig.instance().set_config(cfg)  # what interpolations of ${hydra:...} look at
    return cfg
