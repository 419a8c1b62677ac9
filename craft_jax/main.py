"""Train and evaluate a student: `python -m craft_jax.main --config=configs/craft.py[:preset]`."""

import sys
from pathlib import Path

from craft_jax.training import interrupt

if __name__ == "__main__":
    interrupt.listen()  # before the imports that take seconds

from craft_jax import errors, processes
from craft_jax.config import command
from craft_jax.evaluation.workdirs import evaluate_workdir
from craft_jax.report import reproduction, summary
from craft_jax.runs import canary, compilation_cache
from craft_jax.training.train import train_and_evaluate


@processes.command
def main(argv):
    """Run one command; returns the exit status: 0, that of the CraftError whose text it prints, or 1 where
    --from_results found another result than is recorded."""
    options = command.parse(argv)
    if options.config.compilation_cache:
        compilation_cache.use()
    canary.check()
    if options.mode == "train":
        result = train_and_evaluate(options.config, options.workdir)
        written = Path(options.workdir) / "results.json"
    else:
        result, written = evaluate_workdir(options.config, options.workdir, options.eval_name)
    print(errors.printable(summary.text(result)))
    print(f"results are in {written}")
    if not options.recorded:
        return 0
    lines, same = reproduction.compare(options.recorded, result)
    print(errors.printable("\n".join(lines)))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
