"""No key without a reader, no reader without a key: by the syntax trees of the package."""

import ast
import textwrap

from tests.config.loaded import DEFAULT, ROOT


def chains(tree):
    """(dotted key, line, is it read?) of each longest `config.a.b` or `x.config.a.b` in a syntax tree.

    Where the chain ends in a call, as in config.views.items(), its last name is a method's.
    """
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in inner:
            continue
        names, base = [], node
        while isinstance(base, ast.Attribute):
            names.insert(0, base.attr)
            base = base.value
        if isinstance(base, ast.Name):
            names.insert(0, base.id)
        if "config" not in names or names[0] == "jax":  # JAX's own
            continue
        key = names[names.index("config") + 1 :]
        if id(node) in called:
            key = key[:-1]
        if key:
            yield ".".join(key), node.lineno, isinstance(node.ctx, ast.Load)


def sources():
    """The trees that read configurations: of config/, whose rules name all keys, `teacher_config` alone."""
    room = ROOT / "craft_jax" / "config"
    for path in sorted((ROOT / "craft_jax").rglob("*.py")):
        tree = ast.parse(path.read_text())
        if path == room / "tree.py":
            tree = next(n for n in tree.body if getattr(n, "name", "") == "teacher_config")
        if room not in path.parents or path.name == "tree.py":
            yield path.relative_to(ROOT), tree


def missing_keys(trees, keys):
    """['file:line: config.key'] for each chain that is neither a key nor a section."""
    sections = {key.rpartition(".")[0] for key in keys} - {""}
    return [
        f"{path}:{line}: config.{key}"
        for path, tree in trees
        for key, line, _ in chains(tree)
        if key not in keys and key not in sections
    ]


def dead_keys(trees, keys):
    return sorted(set(keys) - {key for _, tree in trees for key, _, read in chains(tree) if read})


def test_every_key_is_read():
    assert dead_keys(sources(), DEFAULT) == []


def test_every_key_that_is_read_exists():
    assert missing_keys(sources(), DEFAULT) == []


def test_the_detector_detects():
    source = """
    def f(config, run, options):
        a = config.seed + run.config.views.count
        b = [x for x in self.run.config.eval.severities]
        config.items(), config.views.items(), rules.validate(config), options.config
        config.kd.weight = config.kd.temperatur
        return config.data.name.partition(":"), run.epochs, config["seed"], make(config).batch_size
    """
    trees = [("fake.py", ast.parse(textwrap.dedent(source)))]
    found = {key: read for key, _, read in chains(trees[0][1])}
    assert found == {
        "seed": True,
        "views.count": True,
        "eval.severities": True,
        "views": True,
        "kd.weight": False,  # set, not read
        "kd.temperatur": True,
        "data.name": True,
    }
    assert missing_keys(trees, DEFAULT) == ["fake.py:6: config.kd.temperatur"]
    dead = dead_keys(trees, DEFAULT)
    assert {"kd.weight", "kd.temperature", "batch_size", "epochs"} <= set(dead)
    assert not {"seed", "views.count", "data.name"} & set(dead)


def test_the_detector_sees_the_code():
    """The spine's own reads, so that a moved file or a renamed argument cannot blind the two tests above."""
    read = {key for _, tree in sources() for key, _, is_read in chains(tree) if is_read}
    assert {"seed", "dealign.kind", "teacher.learning_rate", "checkpoint.keep", "log.progress"} <= read


def test_the_rules_are_no_readers():
    """They name every key: if they counted, none could be dead."""
    assert [path.name for path, _ in sources() if path.parent.name == "config"] == ["tree.py"]
