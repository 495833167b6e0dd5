"""What holds for every test: one thread, no network, no chatter of libraries.

Set before torch is imported. Processes that tests start inherit it."""

import logging
import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


def pytest_configure(config: pytest.Config) -> None:
    for text in (
        *("LeafSpec", "eval mode at the start", "many workers"),
        *("srun. command is available", "broadcast_buffers. is deprecated"),
    ):
        config.addinivalue_line("filterwarnings", f"ignore:.*{text}.*")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Token streams are kept in a folder of this session, not in the user's."""
    os.environ["GOSSAMER_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked network run only where they are asked for: pytest -m network."""
    if config.option.markexpr:
        return
    wanted = [item for item in items if item.get_closest_marker("network") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted
