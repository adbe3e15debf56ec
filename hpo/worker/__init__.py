"""A worker: leases trials and reruns, samples settings, trains, prunes and writes what came of it."""
