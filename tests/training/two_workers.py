"""Workers of one training, each a process of its own, that start without importing TensorFlow once more.

They are forked from a server that has imported it and done nothing with it.
"""

import json
import multiprocessing
import os
import socket
import sys
from contextlib import closing

PATIENCE = 1800  # seconds, against a hang: no process is that slow


class Worker:
    """A process that runs the program which trains; what it prints goes to files."""

    def __init__(self, context, name, index, addresses, args, directory):
        self.out, self.err = directory / f"{name}{index}.out", directory / f"{name}{index}.err"
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        self.process = context.Process(
            target=work, args=(json.dumps(config), args, str(self.out), str(self.err)), daemon=True
        )
        self.process.start()

    def end(self):
        """Waits for it; its exit status, what it said and what it complained of."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, "it hangs"
        return self.process.exitcode, self.out.read_text(), self.err.read_text()


def work(config, args, out, err):
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream.fileno())
    os.environ["TF_CONFIG"] = config
    from nem_tf import cli, train
    from nem_tf.training import trainer

    trainer.SCORE_EVERY = 2
    cli.run(train.main, train.define, "nem_tf.train", train.__doc__, argv=args)


def start_server():
    """Returns the context of the workers' processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["conftest", "nem_tf.evaluation", "nem_tf.training.signals"])
    return context


def start_workers(context, name, args, directory):
    """Two workers; a free port each."""
    with closing(socket.socket()) as first, closing(socket.socket()) as second:
        for free in (first, second):
            free.bind(("localhost", 0))
        addresses = [f"localhost:{free.getsockname()[1]}" for free in (first, second)]
    return [Worker(context, name, index, addresses, args, directory) for index in range(2)]
