"""Samples whose inputs are images in files: read by other processes in the order in which training needs them.

Each image is decoded once for all members of the same seed.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hpo.data.image_files import ImageFiles
from hpo.data.image_loader import ImageLoader
from hpo.data.image_reading import Request
from hpo.processor import cpu_cores
from hpo.random import mix
from hpo.training.samples import Samples

EXAMPLES = 4
AHEAD = 2  # batches that are copied to a GPU before it needs them
MAX_PROCESSES = 8


class StreamedSamples(Samples):
    """As `Samples`, without `inputs` on the device."""

    def _place_inputs(self) -> None:
        files = self.source.inputs
        assert isinstance(files, ImageFiles)
        self._files, self._colours = files, files.colours.to(self.device)
        processes = getattr(self.dataset, "processes", None)
        count = max(1, min(MAX_PROCESSES, cpu_cores() - 1)) if processes is None else processes
        self._loader = ImageLoader(files.crops, count, pinned=self.device.type == "cuda")
        self._batches: Iterator[Tensor] = iter(())
        self._copied: deque[torch.cuda.Event] = deque()
        self._copies = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self._pixels = torch.empty(0)  # of the next step, in bytes: [S, V, N, 3, H, W] for S seeds

    @property
    def examples(self) -> Tensor:
        return self._files[:EXAMPLES].to(self.device)

    def keep(self, rows: Sequence[int]) -> None:
        super().keep(rows)
        self._pixels = torch.empty(0)

    def close(self) -> None:
        self._loader.close()

    def start_epoch(self, order: Tensor, batch_size: int, epoch: int, views: int, clean: bool) -> None:
        """Begins to read an epoch's batches ahead.

        Args:
            order: [K, n] indices. views, clean: as in `views`.
        """
        orders, keys = order[self.distinct].cpu(), self.data_keys[self.distinct].cpu()
        numbers = torch.arange(views)

        def requests() -> Iterator[Request]:
            for batch in orders.split(batch_size, 1):
                for indices, key in zip(batch, keys, strict=True):
                    if self.dataset.augments:
                        yield self._files.request(indices, mix(key, epoch, indices[:, None], numbers), central=clean)
                    else:
                        yield self._files.request(indices)

        self._batches = self._loader.read(requests())

    def advance(self) -> None:
        """Takes the next batch of an epoch."""
        parts = [next(self._batches) for _ in self.distinct]
        if self.device.type == "cuda":
            self._copy_to_device(parts)
        else:
            self._pixels = parts[0][None] if len(parts) == 1 else torch.stack(parts)

    def _copy_to_device(self, parts: Sequence[Tensor]) -> None:
        """Copies a batch while the step before runs, at most AHEAD batches before the GPU needs them."""
        assert self._copies is not None
        if len(self._copied) == AHEAD:
            self._copied.popleft().synchronize()
        steps = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._copies):
            moved = [part.to(self.device, non_blocking=True) for part in parts]
        steps.wait_stream(self._copies)
        # A CUDA graph reads this address; a batch is larger only for other steps, which record anew.
        if not len(self._pixels) or self._pixels.shape[2] < parts[0].shape[1]:
            self._pixels = torch.empty(len(parts), *parts[0].shape, dtype=torch.uint8, device=self.device)
        for target, part in zip(self._pixels, moved, strict=True):
            part.record_stream(steps)
            target[:, : part.shape[1]].copy_(part)
        self._copied.append(torch.cuda.Event())
        self._copied[-1].record(steps)

    def views(self, indices: Tensor, count: int, epoch: Tensor | int, clean: bool = False) -> Tensor:
        """The views of the batch that `advance` took, which is the one at these indices."""
        del epoch
        inputs = self._of_members(self._colours(self._pixels[:, :, : indices.shape[1]]))
        return inputs if self.dataset.augments else inputs.expand(-1, count + clean, *[-1] * 4)

    def read(self, indices: Tensor, size: int, test: bool = False) -> Iterator[Tensor]:
        files = self.source.test_inputs if test else self.source.inputs
        assert isinstance(files, ImageFiles)
        distinct = [0] if test else self.distinct
        rows = indices[distinct].cpu()
        requests = (files.request(part) for columns in rows.split(size, 1) for part in columns)
        batches = self._loader.read(requests)
        for pixels in batches:
            parts = [pixels, *(next(batches) for _ in distinct[1:])]
            inputs = self._colours(torch.cat(parts).to(self.device))
            yield inputs.expand(len(self.seeds), *inputs.shape[1:]) if test else self._of_members(inputs)
