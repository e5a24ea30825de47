"""Jobs: long work on the disks of a machine, which clients start, watch, pause, cancel and finish.

`states` has the theory and the tables, `job` the life of every job, `block_job` what those have in common that work on
nodes of the block graph; `jobs` is the list of a machine, `transaction` what several jobs have together.  Each kind of
job is a module of its own: `stream`, `commit`, `mirror`, `create`, ...

**To write a new kind of job** make a class of `Job`, or of `BlockJob` where it works on nodes of the graph:

- `KIND` is its QAPI `JobType`.
- `run` is its work: a generator that yields what it waits for, and is sent what came of it.

      def run(self) -> Steps:
          while self.offset < self.length:
              yield from self.sleep(0)                  # a pause point, too
              if self.is_cancelled:
                  return
              outcome = yield Work(partial(self._copy, self.offset))
              ...
              self.advance(CHUNK)

  A piece of work runs in a thread of the disks, and touches nothing but contents; all else, the graph included, is
  changed here.  Where the work fails `run` raises `JobFailure`, OSError, ImageError or a `Refusal`.
- `prepare` makes its effect visible, and may still fail; `commit`, `abort` and `clean` follow, and may not.
- `complete` is what `job-complete` does; `cancels` says whether a cancel that is not forced is one.

Then make an object, which is `created`, and call `start`.  Where something refuses it in between call `give_up`.

A command that changes nodes of the graph asks `BlockGraph.check_free` of each, which refuses where a job works on it;
one that needs them to be quiet does it within `Jobs.drained`, or calls `Jobs.drain_all` where QEMU drains all.  Several
jobs that are to end together get one `JobTransaction`.
"""
