"""The student's optimizer: SGD, and the schedule of its learning rate."""

import optax


def make_optimizer(config, steps):
    """SGD with momentum and coupled weight decay: (optax transformation, schedule of the learning rate).

    An option that is off leaves no trace: neither in the program nor in the state's tree, by which runs that
    were begun before it came go on.

    Args:
      config: reads epochs and optimizer.*.
      steps: of the whole run.
    """
    clip = [optax.clip_by_global_norm(config.optimizer.clip_norm)] if config.optimizer.clip_norm else []
    schedule = _schedule(config, steps)
    return optax.chain(
        *clip,
        optax.add_decayed_weights(config.optimizer.weight_decay),
        optax.sgd(schedule, config.optimizer.momentum, nesterov=config.optimizer.nesterov),
    ), schedule


def warmup_steps(config, steps_per_epoch):
    """The length of the warm-up, which must be less than the run's."""
    return round(config.optimizer.warmup_epochs * steps_per_epoch)


def _schedule(config, steps):
    """The learning rate by step from 0: a cosine to 0, or drops; behind a linear warm-up if there is one."""
    highest, steps_per_epoch = config.optimizer.learning_rate, steps // config.epochs
    warmup = warmup_steps(config, steps_per_epoch)
    if config.optimizer.schedule == "cosine":
        schedule = optax.cosine_decay_schedule(highest, steps - warmup)
    else:
        factor, epochs = config.optimizer.drop_factor, config.optimizer.drop_epochs
        drops = {epoch * steps_per_epoch - warmup: factor for epoch in epochs}
        schedule = optax.piecewise_constant_schedule(highest, drops)
    if not warmup:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, highest, warmup), schedule], [warmup])
