"""papermill's engine, but for when it writes the notebook."""

from __future__ import annotations

from typing import Any

from papermill.engines import NBClientEngine, papermill_engines

ENGINE = "once"  # the name by which papermill knows it


class Once(NBClientEngine):
    """Writes the notebook when it has ended, whichever way.

    papermill's own engine writes all of it twice for each cell: 4 to 7 seconds of a chapter.
    """

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, *args: Any, **kwargs: Any) -> None:
        path, nb_man.output_path = nb_man.output_path, None
        try:
            super().execute_managed_notebook(nb_man, *args, **kwargs)
        finally:
            nb_man.output_path = path  # papermill writes it next


papermill_engines.register(ENGINE, Once)
