"""Launches, waits and collectives in the text of a GPU program, counted by hand."""

import pytest

from launch.benchmarks import hlo

# Two fusions, a convolution by cuDNN with its tuple unpacked, a copy, a sort: five kernels.
STRAIGHT = """HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[8]{0}}

%fused_add (param_0: f32[8], param_1: f32[8]) -> f32[8] {
  %param_0 = f32[8]{0} parameter(0)
  %param_1 = f32[8]{0} parameter(1)
  %multiply.1 = f32[8]{0} multiply(%param_0, %param_1)
  ROOT %add.1 = f32[8]{0} add(%multiply.1, %param_1)
}

%less (a: f32[], b: f32[]) -> pred[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %lt = pred[] compare(%a, %b), direction=LT
}

ENTRY %main.9 (x: f32[8]) -> (f32[8], f32[8]) {
  %x = f32[8]{0} parameter(0), sharding={replicated}
  %one = f32[8]{0} constant({1, 1, 1, 1, 1, 1, 1, 1})
  %loop_fusion = f32[8]{0} fusion(%x, %one), kind=kLoop, calls=%fused_add
  %bitcast.2 = f32[2,4]{1,0} bitcast(%loop_fusion)
  %conv = (f32[2,4]{1,0}, /*index=1*/u8[64]{0}) custom-call(%bitcast.2), \
custom_call_target="__cudnn$convForward"
  %out = f32[2,4]{1,0} get-tuple-element(%conv), index=0
  %copy.1 = f32[2,4]{0,1} copy(%out)
  %sort.1 = f32[8]{0} sort(%x), dimensions={0}, to_apply=%less
  %loop_fusion.1 = f32[8]{0} fusion(%sort.1, %one), kind=kLoop, calls=%fused_add
  ROOT %tuple = (f32[8]{0}, f32[8]{0}) tuple(%loop_fusion.1, %x)
}
"""

# Computations that the programs below call; STEP has two kernels, LESS one.
BODIES = """HloModule jit_step

%step (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %v = f32[8]{0} get-tuple-element(%p), index=1
  %fusion.1 = s32[] fusion(%i), kind=kLoop, calls=%f
  %fusion.2 = f32[8]{0} fusion(%v), kind=kLoop, calls=%f
  ROOT %t = (s32[], f32[8]{0}) tuple(%fusion.1, %fusion.2)
}

%less.2 (q: (s32[], f32[8])) -> pred[] {
  %q = (s32[], f32[8]{0}) parameter(0)
  ROOT %fusion.3 = pred[] fusion(%q), kind=kLoop, calls=%f
}

%twice (r: (s32[], f32[8])) -> (s32[], f32[8]) {
  %r = (s32[], f32[8]{0}) parameter(0)
  %dot.1 = f32[8]{0} dot(%r, %r), lhs_contracting_dims={0}
  ROOT %while.1 = (s32[], f32[8]{0}) while(%r), condition=%less.2, body=%step, \
backend_config={"known_trip_count":{"n":"3"},"known_init_step":{"init":"0","step":"1"}}
}

%alone (s: (s32[], f32[8])) -> (s32[], f32[8]) {
  ROOT %s = (s32[], f32[8]{0}) parameter(0)
}

%chosen (u: (s32[], f32[8])) -> (s32[], f32[8]) {
  %u = (s32[], f32[8]{0}) parameter(0)
  %i.2 = s32[] get-tuple-element(%u), index=0
  ROOT %cond = (s32[], f32[8]{0}) conditional(%i.2, %u, %u, %u), branch_computations={%alone, %step, %twice}
}
"""


def counted(*lines):
    entry = "\n".join(f"  {line}" for line in lines)
    return hlo.count(f"{BODIES}\nENTRY %main (x: f32[8]) -> f32[8] {{\n{entry}\n}}\n")


def loop(body, turns=None, name="while.9"):
    known = f', backend_config={{"known_trip_count":{{"n":"{turns}"}}}}' if turns else ""
    return f"%{name} = (s32[], f32[8]{{0}}) while(%x), condition=%less.2, body=%{body}{known}"


def test_kernels_are_counted_and_names_of_memory_are_not():
    counts = hlo.count(STRAIGHT)
    assert counts.launches == 5
    assert counts.kinds == {"fusion": 2, "__cudnn$convForward": 1, "copy": 1, "sort": 1}
    assert counts[1:7] == (0, 0, 0, 0, 0, 0)


def test_a_loop_counts_its_body_as_often_as_it_turns():
    counts = counted("%c = f32[8]{0} copy(%x)", loop("step", 16))
    assert counts.launches == 1 + 16 * 2  # the condition is not run: the runtime knows the number
    assert (counts.loops, counts.unknown_loops) == (1, 0)


def test_nested_loops_multiply():
    counts = counted(loop("twice", 5))
    assert counts.launches == 5 * (1 + 3 * 2)
    assert counts.kinds == {"dot": 5, "fusion": 30}
    assert (counts.loops, counts.unknown_loops) == (2, 0)


def test_a_loop_of_unknown_length_is_one_turn_and_is_told():
    counts = counted(loop("twice"))
    assert counts.launches == 1 + (1 + 3 * 2)  # its condition is run
    assert (counts.loops, counts.unknown_loops) == (2, 1)


def test_a_conditional_counts_its_longest_branch_and_waits_once_a_turn():
    counts = counted(loop("chosen", 16))
    assert (counts.conditionals, counts.waits) == (1, 16)
    assert counts.launches == 16 * (1 + 3 * 2)
    assert counts.loops == 2  # the outer one and the one in a branch
    two = "%c = f32[8]{0} conditional(%p, %x, %x), true_computation=%step, false_computation=%chosen"
    counts = counted(two)
    assert (counts.conditionals, counts.waits, counts.launches) == (2, 2, 7)


def test_the_two_halves_of_an_asynchronous_operation_are_one():
    counts = counted(
        "%ar = f32[8]{0} all-reduce-start(%x), channel_id=1, to_apply=%less.2",
        "%ad = f32[8]{0} all-reduce-done(%ar)",
        "%g = f32[8]{0} all-gather(%x), channel_id=2, dimensions={0}",
        "%cs = (f32[8]{0}, f32[8]{0}, u32[]) copy-start(%x)",
        "%cd = f32[8]{0} copy-done(%cs)",
        "%as = ((f32[8]{0}), f32[8]{0}) async-start(%x), calls=%step",
        "%au = ((f32[8]{0}), f32[8]{0}) async-update(%as)",
        "%ax = f32[8]{0} async-done(%au)",
        "%dus = f32[8]{0} dynamic-update-slice(%x, %x, %x)",
    )
    assert counts.collectives == 2 and counts.collective_bytes == 2 * 8 * 4
    assert counts.collective_kinds == {"all-reduce": 1, "all-gather": 1}
    assert counts.kinds == {"copy": 1, "fusion": 2, "dynamic-update-slice": 1}


def test_what_a_command_buffer_holds_is_counted_where_it_is_called():
    counts = counted("%k = (s32[], f32[8]{0}) call(%x), to_apply=%twice")
    assert counts.launches == 1 + 3 * 2


def test_collectives_in_a_loop_run_in_each_turn():
    body = "\n%all (x: f32[8]) -> f32[8] {\n  ROOT %r = f32[8]{0} all-reduce(%x), to_apply=%less.2\n}\n"
    text = f"{BODIES}{body}\nENTRY %main (x: f32[8]) -> f32[8] {{\n  {loop('all', 4)}\n}}\n"
    assert hlo.count(text).collectives == 4 and hlo.count(text).collective_bytes == 4 * 8 * 4


def test_the_bytes_of_a_collective_are_those_that_it_gives():
    counts = counted(
        "%a = (bf16[3,5]{1,0}, f32[]) all-reduce-start(%x, %y), to_apply=%less.2",
        "%g = ((f32[2,4]{1,0}, pred[6]{0}), (f32[16,4]{1,0}, pred[48]{0})) all-gather-start(%x, %y)",
        "%p = (u32[4]{0}, u32[4]{0}) collective-permute-start(%x)",
    )
    assert counts.collective_bytes == (30 + 4) + (256 + 48) + 16


def test_another_text_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.count("module @jit_step {\n  func.func public @main() {\n  }\n}\n")
