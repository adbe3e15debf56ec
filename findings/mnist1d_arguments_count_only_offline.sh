#!/usr/bin/env bash
# mnist1d 0.0.2.post1: `get_dataset(args)` obeys `args` only where the download fails.
#
# Guess: arguments that differ from the defaults (more noise, another seed) give data generated with them, or an error
# where only the published data can be had. Seen: with its defaults the function downloads the published data and
# returns them, whatever `args` says, without a word. Where the address cannot be reached, or answers with an error
# page, it generates data with `args` instead. So one script trains on other data on a cluster without internet than on
# a laptop. What it returned is also written to one file in the working directory, whose name knows nothing of `args`:
# with `download=False` as well, later calls with other arguments get the data of the first. `make_dataset(args)` obeys.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q mnist1d==0.0.2.post1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import os
import pickle
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

import numpy as np
from mnist1d.data import get_dataset, get_dataset_args, make_dataset


class Site(BaseHTTPRequestHandler):
    """Serves the data set of the default arguments, as the project's site does, or an error page."""

    status, content = 200, pickle.dumps(make_dataset(get_dataset_args()))

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.content if self.status == 200 else b"<html>not found</html>")

    def log_message(self, *_):
        pass


def arguments(noise, address):
    args = get_dataset_args()
    args.iid_noise_scale, args.url = noise, address
    return args


def in_new_folder():
    os.chdir(tempfile.mkdtemp(dir="."))


def noise_of(data):
    """The noise with which the data were generated."""
    same = [n for n in (0.02, 0.3, 0.6) if np.array_equal(data["x"], make_dataset(arguments(n, ""))["x"])]
    assert len(same) == 1
    return same[0]


print("mnist1d", version("mnist1d"))
server = HTTPServer(("127.0.0.1", 0), Site)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}/mnist1d_data.pkl"
in_new_folder()
online = noise_of(get_dataset(arguments(0.3, address), verbose=False))
in_new_folder()
Site.status = 404
missing = noise_of(get_dataset(arguments(0.3, address), verbose=False))
server.shutdown()
server.server_close()
in_new_folder()
offline = noise_of(get_dataset(arguments(0.3, address), verbose=False))
print(f"asked for noise 0.3: {online} online, {missing} with an error page, {offline} offline")
assert (online, missing, offline) == (0.02, 0.3, 0.3)
later = [noise_of(get_dataset(arguments(n, address), download=False, verbose=False)) for n in (0.6, 0.02)]
print(f"asked for noise 0.6 and 0.02 without a download in the same folder: {later}")
assert later == [0.3, 0.3]
PY
