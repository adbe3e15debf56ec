#!/usr/bin/env bash
# PyTorch 2.13.0: worker processes of a DataLoader that come from a fork server run on for ever after their program was
# killed. With "fork" they end within seconds.
#
# Guess: DataLoader's workers notice the end of their program, as its documentation of the watchdog says, however they
# were started. Seen: the watchdog compares the id of the parent process, which here is the fork server; the fork server
# waits until no process holds its pipe, and its children, the workers, hold it. So both stay, with all their memory.
# "forkserver" is Python's default from 3.14 on. `multiprocessing.parent_process().join()` in a thread of each worker, from
# `worker_init_fn`, ends with the program itself: with it they end at once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat > "$folder/program.py" <<'PY'
import multiprocessing
import os
import sys
import threading
import time

import torch
from torch.utils.data import DataLoader, Dataset


class Slow(Dataset):
    def __len__(self):
        return 1_000_000

    def __getitem__(self, index):
        time.sleep(0.01)
        return torch.zeros(1)


def end_with_program(number):
    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    method, watched = sys.argv[1], sys.argv[2] == "watched"
    init = end_with_program if watched else None
    loader = DataLoader(Slow(), 4, num_workers=2, multiprocessing_context=method, worker_init_fn=init)
    batches = iter(loader)
    next(batches)
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    for _ in batches:
        pass
PY
"$folder/venv/bin/python" - "$folder" <<'PY'
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

WAIT = 30  # seconds; the watchdog looks every 5 s


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def survivors(*arguments):
    """Workers that run on after their program was killed."""
    command = [sys.executable, f"{sys.argv[1]}/program.py", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) == 2 and all(map(is_running, pids))
        program.kill()
        program.wait()
        deadline = time.monotonic() + WAIT
        while any(map(is_running, pids)) and time.monotonic() < deadline:
            time.sleep(0.1)
        left = [pid for pid in pids if is_running(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return len(left)


print("torch", torch.__version__)
found = {}
for method, watched in (("fork", ""), ("forkserver", ""), ("forkserver", "watched")):
    found[method, watched] = survivors(method, watched)
    print(f"{method} {watched}: {found[method, watched]} of 2 workers survive their program by {WAIT} s")
assert found == {("fork", ""): 0, ("forkserver", ""): 2, ("forkserver", "watched"): 0}, found
PY
