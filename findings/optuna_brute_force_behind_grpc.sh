#!/usr/bin/env bash
# Optuna 5.0.0: the exhaustive search of BruteForceSampler does not work behind the gRPC storage proxy. It ends after one
# of nine settings, with an error or, if the errors of trials are caught, without one.
#
# Guess: the proxy is like the storage that it stands for, which the sampler searches exhaustively. Seen: the proxy passes
# a trial's parameters as a Protocol Buffers map, which keeps no order, so that `trial.params` are in another order than
# the suggestions, and in another one in each process. The sampler takes this order for the order of suggestions: the
# second trial fails with "param_name mismatch", then counts as one that needs no parameters, and the search is over.
# Where the names happen to come back in the order of the suggestions all is well, so a test may pass by luck.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q optuna==5.0.0 grpcio==1.85.3 protobuf==7.36.2 numpy==2.4.6 SQLAlchemy==2.1.9
"$folder/venv/bin/python" - 2> "$folder/log" <<'PY' || { cat "$folder/log"; exit 1; }
import socket
import warnings

import optuna
from optuna.samplers import BruteForceSampler
from optuna.storages import GrpcStorageProxy, InMemoryStorage
from optuna.storages._grpc.server import make_server  # run_grpc_proxy_server() serves this one for ever

optuna.logging.set_verbosity(optuna.logging.CRITICAL)
warnings.simplefilter("ignore")
NAMES = ("learning_rate", "weight_decay")
SETTINGS = 3 ** len(NAMES)


def search(storage, names, catch=()):
    """The number of different settings evaluated, the error, and whether the names come back in order."""

    def objective(trial):
        return sum(trial.suggest_int(name, 0, 2) for name in names)

    study = optuna.create_study(storage=storage, sampler=BruteForceSampler(seed=0))
    error = ""
    try:
        study.optimize(objective, n_trials=2 * SETTINGS, catch=catch)
    except ValueError as caught:
        error = str(caught)
    complete = [trial.params for trial in study.trials if trial.state.name == "COMPLETE"]
    return len({tuple(sorted(params.items())) for params in complete}), error, tuple(complete[0]) == names


backend = InMemoryStorage()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
server = make_server(backend, "127.0.0.1", port)
server.start()
proxy = GrpcStorageProxy(host="127.0.0.1", port=port)
try:
    proxy.wait_server_ready()
    print("optuna", optuna.__version__)
    kept = []
    for names in (NAMES, NAMES[::-1]):
        assert search(backend, names) == (SETTINGS, "", True), "the search is exhaustive without the proxy"
        found, error, in_order = search(proxy, names)
        silent = search(proxy, names, catch=(ValueError,))[:2]
        print(f"{', '.join(names)}: {found} of {SETTINGS} settings behind the proxy: {error or 'no error'}")
        print(f"  with caught errors: {silent[0]} of {SETTINGS} settings, {silent[1] or 'no error'}")
        if in_order:
            assert (found, error) == (SETTINGS, "") and silent == (SETTINGS, "")
        else:
            assert found == 1 and "mismatch" in error, "the error is another one"
            assert silent == (1, ""), "with caught errors the search goes on, or raises"
        kept.append(in_order)
    assert sorted(kept) == [False, True], "a map that keeps no order has one order in a process"
finally:
    proxy.close()
    server.stop(0).wait()
PY
