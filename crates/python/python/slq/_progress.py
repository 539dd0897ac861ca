"""A progress bar for ``progress=``."""

import sys
from types import TracebackType
from typing import Any

from ._slq import Event


class Bar:
    """A callback that shows a bar: tqdm's where tqdm is installed (in notebooks, too), else lines on stderr.

    ``slq.compress(..., progress=True)`` uses one. To write your own, pass any callable that takes an ``slq.Event``::

        with tqdm() as bar:
            def show(event):
                if event.kind == "step":
                    bar.total, bar.n = event.total, event.done
                    bar.set_postfix(loss=event.loss)
            slq.compress(..., progress=show)
    """

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            self._bar: Any = None
        else:
            self._bar = tqdm(bar_format="{desc} {n_fmt}/{total_fmt} |{bar}| {postfix}", total=0)
        self._round = ""

    def __call__(self, event: Event) -> None:
        if event.kind == "round":
            self._round = f"round {event.done + 1} of {event.total}"
        elif event.kind in ("step", "layer", "measuring"):
            self._move(event)
        elif event.top1 is not None:
            self._say(f"{event.kind.replace('_', ' ')}: top-1 {100 * event.top1:.2f} %")

    def _move(self, event: Event) -> None:
        if self._bar is None:
            if event.kind == "layer":
                self._say(f"layer {event.done} of {event.total}: {event.name}")
            return
        names = {"step": self._round or "training", "layer": "layers", "measuring": "measuring"}
        self._bar.set_description_str(names[event.kind], refresh=False)
        self._bar.total = event.total
        if event.loss is not None:
            self._bar.set_postfix_str(f"loss {event.loss:.3f}", refresh=False)
        self._bar.n = event.done
        self._bar.update(0)

    def _say(self, text: str) -> None:
        if self._bar is None:
            print(text, file=sys.stderr)
        else:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
