"""How many connections a worker keeps: one, so that a server's hundred are enough for almost as many workers."""

import time

import sqlalchemy as sa
from postgres_server import PostgresServer
from storage_study import make, outcomes

from hpo.storage.database import connect
from hpo.storage.ledger import Outcome, Work, new_worker_id
from hpo.worker.loop import run_worker

COUNT = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


def test_a_worker_keeps_one_connection_while_it_trains(postgresql: PostgresServer) -> None:
    url = postgresql.create()
    ledger = make(connect(url))
    watcher = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
    seen = []

    def train(work: Work) -> list[Outcome]:
        time.sleep(0.3)  # the lease is renewed meanwhile, and what was closed has gone
        with watcher.begin() as connection:
            seen.append(connection.scalar(sa.text(COUNT)))
        return outcomes(work)

    run_worker(ledger, train, new_worker_id(), population=8, lease=1.0)
    assert seen == [1] * len(seen) and len(seen) >= 5
    ledger.engine.dispose()
    postgresql.drop(url)
