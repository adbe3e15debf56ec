"""Workers behind pgbouncer, which runs each transaction on whichever of a few server connections is free."""

import threading

from pgbouncer import PgBouncer
from postgres_server import PostgresServer
from storage_checks import check_numbers, check_optuna, read
from storage_study import make, outcomes

from hpo.storage.database import connect
from hpo.storage.ledger import load_study, new_worker_id
from hpo.storage.schema import slots
from hpo.worker.loop import run_worker


def test_three_workers_complete_a_study_through_two_connections(postgresql: PostgresServer) -> None:
    pooler = PgBouncer(postgresql, size=2)
    url = pooler.url(postgresql.create())
    errors: list[BaseException] = []

    def work() -> None:
        try:
            engine = connect(url)
            run_worker(load_study(engine, "s"), outcomes, new_worker_id(), population=4)
            engine.dispose()
        except BaseException as error:
            errors.append(error)

    try:
        make(connect(url), trials=20, seeds=4)
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert errors == [] and not any(thread.is_alive() for thread in threads)
        ledger = load_study(connect(url), "s")
        assert ledger.state() == "done"
        check_numbers(ledger, read(ledger, slots))
        check_optuna(ledger, url, read(ledger, slots))
    finally:
        pooler.close()
