"""What the trackers' own files contain: TensorBoard's by its reader, MLflow's by its client, W&B's record by record."""

import json
import math
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = 32768  # bytes of a block in a .wandb file, which is a log of LevelDB


class StoredRun(NamedTuple):
    """A run as a tracker has stored it: metric → epoch → value; final metrics without their "final/"."""

    config: dict[str, Any]
    curves: dict[str, dict[int, float]]
    final: dict[str, float]
    ended: bool


def read_tensorboard(folder: Path) -> dict[str, StoredRun]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from tensorboard.util.tensor_util import make_ndarray

    runs = {}
    for path in sorted((folder / "runs" / "s").glob("*/*/*")):
        events = EventAccumulator(str(path)).Reload()
        summary = events.SummaryMetadata("_hparams_/session_start_info")
        hparams = HParamsPluginData.FromString(summary.plugin_data.content).session_start_info.hparams
        config = {name: getattr(value, value.WhichOneof("kind")) for name, value in hparams.items()}
        points = {
            tag: [(event.step, make_ndarray(event.tensor_proto).item()) for event in events.Tensors(tag)]
            for tag in events.Tags()["tensors"]
            if not tag.startswith("_hparams_")
        }
        runs["/".join(path.parts[-3:])] = _stored(config, points, (path / "finished").exists())
    return runs


def read_mlflow(folder: Path) -> dict[str, StoredRun]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("s")
    runs = {}
    for run in client.search_runs([experiment.experiment_id]) if experiment else []:
        assert run.data.tags["hpo.name"] not in runs, "a run is there twice"
        points = {
            name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        tags = {name: value for name, value in run.data.tags.items() if "." not in name}
        runs[run.data.tags["hpo.name"]] = _stored(run.data.params | tags, points, run.info.status == "FINISHED")
    return runs


def read_wandb(folder: Path) -> dict[str, StoredRun]:
    """All runs, when each has ended: W&B's service writes them in the background, also after `finish`."""
    from wandb.proto.wandb_internal_pb2 import Record

    deadline = time.monotonic() + 20
    while True:
        files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
        records = [[Record.FromString(each) for each in _records(path.read_bytes())] for path in files]
        if all(any(record.HasField("exit") for record in each) for each in records) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    runs: dict[str, StoredRun] = {}
    for each in records:
        name, run = _wandb_run(each)
        assert name not in runs, "a run is there twice"
        runs[name] = run
    return runs


def _wandb_run(records: Iterable[Any]) -> tuple[str, StoredRun]:
    name, config, points, ended = "", dict[str, Any](), dict[str, list[tuple[int, float]]](), False
    for record in records:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            name = record.run.display_name
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            assert {f"seed:{config['seed']}", f"phase:{config['phase']}"} <= set(record.run.tags)
        elif kind == "history":
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for metric, value in row.items():
                if not metric.startswith("_") and metric != "epoch":
                    points.setdefault(metric, []).append((row["epoch"], float(value)))
        elif kind == "summary":
            for item in record.summary.update:
                key = item.key or item.nested_key[0]
                if key.startswith("final/"):
                    points[key] = [(0, json.loads(item.value_json))]
        elif kind == "exit":
            ended = record.exit.exit_code == 0
    return name, _stored(config, points, ended)


def _stored(config: dict[str, Any], points: dict[str, list[tuple[int, float]]], ended: bool) -> StoredRun:
    curves, final = {}, {}
    for name, values in points.items():
        assert len({step for step, _ in values}) == len(values), f"{name} has an epoch twice"
        if name.startswith("final/"):
            final[name.removeprefix("final/")] = values[-1][1]
        else:
            curves[name] = {step: value for step, value in values if not math.isnan(value)}
    return StoredRun(config, curves, final, ended)


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log after W&B's header: blocks of chunks (checksum, length, kind), joined."""
    offset, joined = 7, b""
    while offset + 7 <= len(content):
        if BLOCK - offset % BLOCK < 7:
            offset += BLOCK - offset % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, offset)
        if offset + 7 + length > len(content):  # not yet written to its end
            return
        joined += content[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (1, 4):  # a whole record, or its last chunk
            yield joined
            joined = b""


READERS = {"tensorboard": read_tensorboard, "mlflow": read_mlflow, "wandb": read_wandb}
