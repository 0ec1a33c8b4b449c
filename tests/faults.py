"""Faults, each planted in the package of an installed project or in the template, and the one test that must notice it.

`nox -s faults` renders and installs the project. Arguments are words, one of which a fault must hold: `-- loader.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tests.installed import rendered_again
from tests.table import ROOT


class Fault(NamedTuple):
    """What a file has, what replaces it, and which test must fail.

    The file is one of the package, and the test one of the project, as the answer to `data` makes it; or it is a file of the
    template, whose tests are the template's.
    """

    file: str
    old: str
    new: str
    test: str
    data: str = "digits"


TRAIN, CHECKPOINT, SHARD, STATE, LOADER, DIST = (
    "test_train.py",
    "runtime/test_checkpoint.py",
    "runtime/test_shard.py",
    "runtime/test_state.py",
    "runtime/test_loader.py",
    "runtime/test_dist.py",
)
ORDER, HEARTBEAT, RENDEZVOUS = (f"runtime/test_{name}.py" for name in ("order", "heartbeat", "rendezvous"))
PIPELINES, CONTAINERS, COMMANDS = "tests/test_pipelines.py", "tests/test_containers.py", "tests/test_commands.py"
WORKFLOWS, GITLAB, BATCH = (
    "template/.github/workflows",
    "template/.gitlab-ci.yml.jinja",
    "template/slurm/train.sbatch.jinja",
)
DATA, MODEL = "test_data.py", "test_model.py"
EVALUATION, REPORT, PROGRESS, CURVES, SETTINGS, PERFORMANCE = (
    f"runtime/test_{name}.py" for name in ("evaluation", "report", "progress", "curves", "settings", "performance")
)
RANGES = "test_a_setting_has_the_range_of_its_type"
DOCTOR, SITUATIONS = "template/tools/doctor.py.jinja", "tests/test_doctor.py"
WRONG, RIGHT = f"{SITUATIONS}::test_what_is_wrong_is_found", f"{SITUATIONS}::test_nothing_is_wrong"
FAULTS = [
    # The loop
    Fault(
        "train.py",
        "learning_rate(step + 1, config)",
        "learning_rate(step, config)",
        f"{TRAIN}::test_the_step_takes_its_own_rate",
    ),
    Fault(
        "train.py",
        "        self.scaler.unscale_(self.optimizer)\n",
        "",
        f"{TRAIN}::test_gradients_are_clipped_as_they_are_not_as_half_precision_scales_them",
    ),
    Fault(
        "runtime/steps.py",
        "math.isfinite(sum(figures.values()))",
        "math.isfinite(figures['loss'])",
        f"{TRAIN}::test_a_norm_or_a_loss_alone_that_is_not_finite_stops_the_run",
    ),
    Fault(
        "runtime/steps.py",
        "math.isfinite(sum(figures.values()))",
        "math.isfinite(figures['norm'])",
        f"{TRAIN}::test_a_norm_or_a_loss_alone_that_is_not_finite_stops_the_run",
    ),
    Fault(
        "runtime/steps.py",
        " or scaler.get_scale() < 1e-3",
        "",
        f"{TRAIN}::test_half_precision_that_overflows_for_ever_stops_the_run",
    ),
    Fault(
        "train.py",
        "config.seed, 3, step, process.rank, part",
        "config.seed, 3, 0, process.rank, part",
        f"{TRAIN}::test_what_a_model_draws_follows_from_step_rank_and_part",
    ),
    Fault(
        "train.py",
        "config.seed, 3, step, process.rank, part",
        "config.seed, 3, step, 0, part",
        f"{TRAIN}::test_what_a_model_draws_follows_from_step_rank_and_part",
    ),
    Fault(
        "train.py",
        "config.seed, 3, step, process.rank, part",
        "config.seed, 3, step, process.rank, 0",
        f"{TRAIN}::test_what_a_model_draws_follows_from_step_rank_and_part",
    ),
    Fault(
        "runtime/steps.py",
        "process.sum(self.losses)",
        "self.losses",
        f"{TRAIN}::test_processes_and_parts_change_nothing",
    ),
    Fault(
        "train.py",
        "        count = process.sum(count)\n",
        "",
        f"{TRAIN}::test_processes_and_parts_change_nothing",
    ),
    Fault(
        "train.py",
        "process.world_size / config.batch_size",
        "1 / config.batch_size",
        f"{TRAIN}::test_processes_and_parts_change_nothing",
    ),
    Fault("runtime/steps.py", "part == parts - 1", "part == 0", f"{TRAIN}::test_processes_and_parts_change_nothing"),
    Fault(
        "train.py",
        "if signal and step < config.steps:",
        "if False:",
        f"{TRAIN}::test_a_signal_at_the_last_step_does_not_hide_the_result",
    ),
    Fault(
        "train.py",
        "if signal and step < config.steps:",
        "if signal:",
        f"{TRAIN}::test_a_signal_at_the_last_step_does_not_hide_the_result",
    ),
    Fault(
        "runtime/state.py",
        "                    complete(path, state)\n",
        "                    pass\n",
        f"{TRAIN}::test_if_the_metrics_cannot_be_written_the_checkpoint_is",
    ),
    Fault(
        "train.py",
        "with autocast(process.device, self.dtype):",
        "with autocast(process.device, torch.float32):",
        f"{TRAIN}::test_every_precision_trains",
    ),
    Fault(
        "runtime/evaluation.py",
        "seed_all(mix(settings.seed), process.device)",
        "pass",
        f"{TRAIN}::test_an_evaluation_has_the_data_and_the_network_of_the_training",
    ),
    Fault(
        "train.py",
        "with reporting(config, step,",
        "step = 0\n        with reporting(config, step,",
        f"{TRAIN}::test_a_run_resumes_as_if_it_had_not_stopped",
    ),
    Fault(
        "train.py",
        "config.lr_floor + (1 - config.lr_floor) *",
        "",
        f"{TRAIN}::test_the_learning_rate_rises_then_falls_to_its_floor",
    ),
    Fault(
        "train.py",
        "min(config.warmup, config.steps // 2)",
        "config.warmup",
        f"{TRAIN}::test_a_trial_of_few_steps_warms_up_too",
    ),
    Fault(
        "runtime/evaluation.py",
        "self.on(self.data.test)",
        "self.on(self.data.validation)",
        f"{TRAIN}::test_a_test_is_of_the_test_set",
    ),
    Fault(
        "runtime/evaluation.py",
        "        load_saved(self.model, saved)\n",
        "",
        f"{TRAIN}::test_the_best_is_evaluated",
    ),
    # The data
    Fault(
        "data.py",
        "test=TensorDataset(images[test], labels[test])",
        "test=TensorDataset(images[~test], labels[~test])",
        "test_data.py::test_no_sample_is_in_two_sets",
    ),
    Fault(
        "data.py",
        "rows[:, -1].long()",
        "rows[:, -1].long().flip(0)",
        "test_data.py::test_the_labels_are_those_of_the_images",
    ),
    Fault(
        "data.py",
        "reshape(-1, 1, 8, 8) / 16",
        "reshape(-1, 1, 8, 8)",
        "test_data.py::test_the_digits_are_images_and_labels",
    ),
    # Text
    Fault(
        "data.py",
        "stride = 1 if text.length <= OVERLAPPING else context",
        "stride = 1",
        f"{DATA}::test_samples_are_windows_of_the_text",
        "text",
    ),
    Fault(
        "data.py",
        "range(0, validation - context, stride)",
        "range(0, validation, stride)",
        f"{DATA}::test_no_token_is_in_two_sets",
        "text",
    ),
    Fault(
        "data.py",
        "range(validation, test - context, context)",
        "range(validation, test, context)",
        f"{DATA}::test_no_token_is_in_two_sets",
        "text",
    ),
    Fault(
        "data.py",
        "min(text.length // 20, HELD_OUT)",
        "text.length // 20",
        f"{DATA}::test_of_a_long_text_no_more_is_held_out_than_an_evaluation_takes",
        "text",
    ),
    Fault(
        "data.py",
        "if held_out <= context:",
        "if held_out < context:",
        f"{DATA}::test_what_is_not_a_text_is_refused",
        "text",
    ),
    Fault(
        "data.py",
        "windows.max()) >= self",
        "windows.max()) > self",
        f"{DATA}::test_a_token_beyond_the_vocabulary_is_refused",
        "text",
    ),
    Fault(
        "data.py",
        " and file.stat().st_size]",
        "]",
        f"{DATA}::test_a_folder_is_its_files_one_after_the_other",
        "text",
    ),
    Fault(
        "data.py",
        "sorted(path.rglob",
        "sorted(path.glob",
        f"{DATA}::test_a_folder_is_its_files_one_after_the_other",
        "text",
    ),
    Fault(
        "data.py",
        "[:length])",
        "[: length + 1])",
        f"{DATA}::test_a_folder_is_its_files_one_after_the_other",
        "text",
    ),
    Fault(
        "data.py",
        "if file.stat().st_size % np.dtype(dtype).itemsize:",
        "if False:",
        f"{DATA}::test_what_is_not_a_text_is_refused",
        "text",
    ),
    Fault(
        "data.py",
        "max(tokens) >= config.vocabulary",
        "max(tokens) > config.vocabulary",
        f"{DATA}::test_a_prompt_becomes_tokens_and_tokens_become_text",
        "text",
    ),
    Fault(
        "model.py",
        "is_causal=x.shape[1] > 1",
        "is_causal=False",
        f"{MODEL}::test_a_later_token_changes_nothing_before_it",
        "text",
    ),
    Fault(
        "model.py",
        "rotations(before, before + tokens.shape[1],",
        "rotations(0, tokens.shape[1],",
        f"{MODEL}::test_a_cache_changes_no_logits",
        "text",
    ),
    Fault(
        "model.py",
        "a * sine + b * cosine",
        "a * cosine + b * sine",
        f"{MODEL}::test_rotations_depend_on_the_distance_alone",
        "text",
    ),
    Fault(
        "model.py",
        "        q, k = rotate(q, rotation), rotate(k, rotation)\n",
        "",
        f"{MODEL}::test_order_counts",
        "text",
    ),
    Fault(
        "model.py",
        " / (2 * config.depth) ** 0.5 if adds else 0.02",
        "",
        f"{MODEL}::test_what_is_added_to_the_residual_stream_begins_small",
        "text",
    ),
    Fault(
        "model.py",
        "head.weight).to(x.dtype)",
        "head.weight)",
        f"{MODEL}::test_logits_are_in_full_precision",
        "text",
    ),
    Fault(
        "model.py",
        '"weight_decay": 0.0',
        '"weight_decay": config.weight_decay',
        f"{MODEL}::test_matrices_decay_alone",
        "text",
    ),
    Fault(
        "model.py",
        "batch[:, 1:].flatten()",
        "batch[:, :-1].flatten()",
        f"{MODEL}::test_the_loss_is_that_of_each_next_token",
        "text",
    ),
    Fault(
        "model.py",
        '= "min"',
        '= "max"',
        f"{TRAIN}::test_the_best_is_evaluated",
        "text",
    ),
    Fault(
        "model.py",
        "head = self.embed if self.head is None else self.head",
        "head = self.embed",
        f"{MODEL}::test_a_head_has_weights_of_its_own_unless_it_is_tied",
        "text",
    ),
    Fault(
        "model.py",
        "None if config.tied else nn.Linear",
        "nn.Linear",
        f"{MODEL}::test_a_head_has_weights_of_its_own_unless_it_is_tied",
        "text",
    ),
    Fault(
        "generate.py",
        "tokens[-max(1, model.context // 2) :]",
        "tokens[-model.context :]",
        f"{MODEL}::test_what_follows_is_what_is_likeliest",
        "text",
    ),
    Fault(
        "generate.py",
        "if seen + len(new) > model.context:",
        "if False:",
        f"{MODEL}::test_what_follows_is_what_is_likeliest",
        "text",
    ),
    Fault(
        "generate.py",
        "manual_seed(config.seed)",
        "manual_seed(0)",
        f"{MODEL}::test_what_is_drawn_follows_from_the_seed_and_the_temperature",
        "text",
    ),
    Fault(
        "generate.py",
        " / config.temperature",
        "",
        f"{MODEL}::test_tokens_are_drawn_as_often_as_they_are_likely",
        "text",
    ),
    Fault(
        "generate.py",
        "if config.top_k:",
        "if False:",
        f"{MODEL}::test_tokens_are_drawn_as_often_as_they_are_likely",
        "text",
    ),
    Fault(
        "generate.py",
        "letters.decode(decode(next(following), settings))",
        'decode(next(following), settings).decode(errors="replace")',
        f"{MODEL}::test_text_is_generated_from_the_best_checkpoint",
        "text",
    ),
    # The command line
    Fault(
        "runtime/command.py",
        "return 128 + (error.args[0] if error.args else 2)",
        "return 1",
        "runtime/test_command.py::test_how_a_command_ends",
    ),
    Fault(
        "runtime/command.py",
        "except (UserError, OSError) as error:",
        "except UserError as error:",
        "runtime/test_command.py::test_how_a_command_ends",
    ),
    Fault(
        "runtime/command.py",
        "    except ReportedError:\n        return 2\n",
        "",
        "runtime/test_command.py::test_how_a_command_ends",
    ),
    Fault(
        "runtime/command.py",
        "return 128 + stopped.number",
        "return 1",
        "runtime/test_command.py::test_how_a_command_ends",
    ),
    Fault(
        "runtime/command.py",
        "import tyro\n",
        "import torch  # noqa: F401\nimport tyro\n",
        "test_main.py::test_help_does_not_wait_for_torch",
    ),
    Fault("runtime/settings.py", "value.expanduser()", "value", f"{SETTINGS}::{RANGES}"),
    Fault("runtime/settings.py", "0 < number < 2**32", "0 <= number < 2**32", f"{SETTINGS}::{RANGES}"),
    Fault("runtime/settings.py", "0 <= number <= 1)", "0 <= number)", f"{SETTINGS}::{RANGES}"),
    Fault(
        "runtime/report.py",
        "                with suppress(OSError):\n                    self._log(step, metrics)\n",
        "                pass\n",
        f"{REPORT}::test_what_was_measured_is_reported_also_if_a_signal_or_an_error_comes",
    ),
    Fault(
        "runtime/state.py",
        "            self.save(step)\n            report.say",
        "            report.say",
        f"{STATE}::test_a_run_that_ends_early_has_a_checkpoint_of_its_last_step",
    ),
    Fault(
        "runtime/weights.py",
        "        if partly:\n",
        "        if False:\n",
        f"{STATE}::test_a_run_without_other_weights_keeps_its_own",
    ),
    # Checkpoints
    Fault(
        "runtime/checkpoint.py",
        'state: Any = torch.load(str(path), map_location="cpu", weights_only=True, mmap=mapped)',
        'state: Any = torch.load(str(path), map_location="cpu", weights_only=False, mmap=mapped)',
        f"{CHECKPOINT}::test_loading_runs_no_code_of_the_file",
    ),
    Fault(
        "runtime/checkpoint.py",
        'state: Any = torch.load(str(path), map_location="cpu", weights_only=True, mmap=mapped)',
        "state: Any = torch.load(str(path), weights_only=True, mmap=mapped)",
        f"{CHECKPOINT}::test_a_checkpoint_of_a_gpu_is_read_without_one",
    ),
    Fault(
        "runtime/checkpoint.py",
        'temporary = path.with_name(f"{path.name}.tmp")',
        "temporary = path",
        f"{CHECKPOINT}::test_a_process_killed_while_saving_leaves_the_old_checkpoint",
    ),
    Fault(
        "runtime/checkpoint.py",
        "            os.fsync(file.fileno())\n",
        "",
        f"{CHECKPOINT}::test_a_checkpoint_is_on_the_disk_before_it_has_its_name",
    ),
    Fault(
        "runtime/checkpoint.py",
        "(*newest_first(folder), folder / BEST)",
        "(folder / BEST, *newest_first(folder))",
        f"{CHECKPOINT}::test_the_best_is_the_last_to_resume_from_and_the_first_to_evaluate",
    ),
    Fault(
        "runtime/checkpoint.py",
        '    for leftover in folder.glob("*.pt.tmp"):\n        leftover.unlink()\n',
        "",
        f"{CHECKPOINT}::test_a_process_killed_while_saving_leaves_the_old_checkpoint",
    ),
    Fault(
        "runtime/checkpoint.py",
        "corrupt = archive.testzip()",
        "corrupt = None",
        f"{CHECKPOINT}::test_what_is_damaged_is_skipped",
    ),
    Fault(
        "runtime/checkpoint.py",
        '        torch.load(str(temporary), map_location="cpu", weights_only=True, mmap=True)\n',
        "",
        f"{CHECKPOINT}::test_what_could_not_be_read_again_is_refused_when_it_is_saved",
    ),
    Fault(
        "runtime/checkpoint.py",
        "        except DamagedCheckpoint as error:\n",
        "        except UserError as error:\n",
        f"{CHECKPOINT}::test_what_cannot_be_read_is_not_skipped",
    ),
    Fault(
        "runtime/checkpoint.py",
        "if path <= path_of(folder, step)]",
        "]",
        f"{CHECKPOINT}::test_the_newest_are_kept_and_one_that_is_damaged_costs_no_other_its_place",
    ),
    Fault(
        "runtime/checkpoint.py",
        "step:010d",
        "step:d",
        f"{CHECKPOINT}::test_the_newest_are_kept_and_one_that_is_damaged_costs_no_other_its_place",
    ),
    Fault(
        "runtime/checkpoint.py",
        "error.__context__ or error",
        "error",
        f"{CHECKPOINT}::test_a_file_that_grows_too_large_is_named",
    ),
    Fault(
        "runtime/checkpoint.py",
        "    process.main_only(acquire)\n",
        "",
        f"{CHECKPOINT}::test_a_folder_has_one_run_at_a_time",
    ),
    Fault(
        "runtime/checkpoint.py",
        '(found["format"], found["order"]) != (FORMAT, ORDER)',
        "False",
        f"{CHECKPOINT}::test_what_another_program_wrote_is_not_skipped",
    ),
    # Networks that are sharded
    Fault(
        "runtime/shard.py",
        "        args, kwargs = tree_map_only(Tensor, Tensor.clone, (args, kwargs))\n",
        "",
        f"{SHARD}::test_a_sharded_network_has_the_weights_that_it_would_have_had",
    ),
    Fault(
        "runtime/shard.py",
        "            func(torch.empty_strided(*place[:2], dtype=self.dtype), *args, **kwargs)\n",
        "            pass\n",
        f"{SHARD}::test_a_sharded_network_has_the_weights_that_it_would_have_had",
    ),
    Fault(
        "runtime/shard.py",
        '            raise NotImplementedError(f"{func} writes to several weights")\n',
        "            pass\n",
        f"{SHARD}::test_a_sharded_network_has_the_weights_that_it_would_have_had",
    ),
    Fault(
        "runtime/shard.py",
        "    checkpoint.delete_parts(path, kept=parts)\n",
        "",
        f"{SHARD}::test_parts_are_deleted_with_their_checkpoint",
    ),
    Fault(
        "runtime/checkpoint.py",
        "        delete_parts(path)\n",
        "",
        f"{SHARD}::test_parts_are_deleted_with_their_checkpoint",
    ),
    Fault(
        "runtime/checkpoint.py",
        'list(pool.map(_check, found["parts"]))',
        "pass",
        f"{SHARD}::test_a_part_that_is_damaged_is_noticed",
    ),
    Fault(
        "runtime/weights.py",
        "begin, end = begin - len(part), end - len(part)",
        "pass",
        f"{SHARD}::test_rows_are_read_from_the_parts_that_have_them",
    ),
    Fault(
        "runtime/shard.py",
        "        if value is not self:",
        "        if False:",
        f"{SHARD}::test_a_sharded_network_has_the_weights_that_it_would_have_had",
    ),
    Fault(
        "runtime/shard.py",
        "any(map(getweakrefcount",
        "False and any(map(getweakrefcount",
        f"{SHARD}::test_a_sharded_network_has_the_weights_that_it_would_have_had",
    ),
    Fault(
        "runtime/checkpoint.py",
        "            delete_parts(path, kept=load",
        "            path.exists() or delete_parts(path, kept=load",
        f"{SHARD}::test_parts_are_deleted_with_their_checkpoint",
    ),
    Fault(
        "runtime/evaluation.py",
        "process.in_all(opened, process.main_only(checkpoint.load_best, path))",
        "process.main_only(checkpoint.load_best, path)",
        f"{SHARD}::test_a_checkpoint_that_is_opened_may_be_replaced",
    ),
    Fault(
        "runtime/weights.py",
        'if part["part"] != ',
        'if False and part["part"] != ',
        f"{SHARD}::test_a_part_of_another_checkpoint_is_refused",
    ),
    Fault(
        "runtime/checkpoint.py",
        "path.resolve().parent",
        "path.parent",
        f"{SHARD}::test_a_checkpoint_with_parts_may_be_linked",
    ),
    Fault(
        "runtime/heartbeat.py",
        "(life.turns, behind)",
        "life.turns",
        f"{HEARTBEAT}::test_nobody_is_late_who_was_as_busy_as_the_others",
    ),
    Fault(
        "runtime/rendezvous.py",
        'store.add("failed", 1 if failure else 0)',
        'store.add("failed", 0)',
        f"{RENDEZVOUS}::test_two_processes_end_alike_and_say_why_once[lacks a device-2-unknown device 'tpu']",
    ),
    Fault(
        "runtime/rendezvous.py",
        "dist.PrefixStore(name_of_start(), store)",
        "store",
        f"{RENDEZVOUS}::test_a_process_of_another_run_does_not_join",
    ),
    # What is restored
    Fault(
        "runtime/state.py",
        "figure > self.best if mode",
        "figure >= self.best if mode",
        f"{STATE}::test_the_best_is_kept",
    ),
    Fault(
        "runtime/state.py",
        'if mode == "max" else figure < self.best',
        'if mode == "max" else figure > self.best',
        f"{STATE}::test_the_best_is_kept",
    ),
    Fault(
        "runtime/state.py",
        '            self.best = saved["best"]\n',
        "            pass\n",
        f"{STATE}::test_the_best_so_far_is_restored_if_it_is_there",
    ),
    Fault(
        "runtime/state.py",
        "if process.main_only(checkpoint.best_step, self.folder) <= step:",
        "if True:",
        f"{STATE}::test_the_best_so_far_is_restored_if_it_is_there",
    ),
    Fault(
        "runtime/state.py",
        '            self.scaler.load_state_dict(saved["scaler"])\n',
        "            pass\n",
        f"{STATE}::test_what_is_restored_continues_bit_for_bit",
    ),
    Fault(
        "runtime/state.py",
        '        self.optimizer.load_state_dict({"state": state, "param_groups": groups})\n',
        "",
        f"{STATE}::test_what_the_optimizer_keeps_in_its_options_is_restored_and_what_is_given_is_taken",
    ),
    Fault(
        "runtime/state.py",
        "            self.process.main_only(checkpoint.prune, self.folder, step, self.settings.keep)\n",
        "",
        f"{STATE}::test_only_the_newest_checkpoints_are_kept",
    ),
    Fault(
        "runtime/state.py",
        "if now.get(option) == then.get(option)}",
        "}",
        f"{STATE}::test_what_the_optimizer_keeps_in_its_options_is_restored_and_what_is_given_is_taken",
    ),
    Fault(
        "runtime/state.py",
        "{**now, **kept, ",
        "{**now, ",
        f"{STATE}::test_what_the_optimizer_keeps_in_its_options_is_restored_and_what_is_given_is_taken",
    ),
    Fault(
        "runtime/state.py",
        "n for n in changed if n not in operational",
        "n for n in changed if n in operational",
        f"{STATE}::test_a_finished_run_is_not_taken_for_one_with_other_settings",
    ),
    Fault("runtime/weights.py", "value.contiguous().clone()", "value", f"{STATE}::test_weights_are_exported_and_read"),
    Fault("runtime/weights.py", "        temporary.chmod(mode)\n", "", f"{STATE}::test_weights_are_exported_and_read"),
    Fault(
        "runtime/weights.py",
        "if differing and not (partly and mine.keys() - differing):",
        "if differing and not partly:",
        f"{STATE}::test_what_does_not_match_is_left_out_if_asked_for",
    ),
    # The order of the data, and who loads it
    Fault("runtime/order.py", "mix(seed, epoch)", "(seed + epoch)", f"{ORDER}::test_epochs_and_seeds_differ"),
    Fault("runtime/order.py", "mix(seed, epoch)", "mix(seed)", f"{ORDER}::test_epochs_and_seeds_differ"),
    Fault("runtime/order.py", "range(first * batch_size,", "range(0,", f"{ORDER}::test_a_run_can_begin_at_any_step"),
    Fault("runtime/order.py", "range(4)", "range(3)", f"{ORDER}::test_a_permutation_looks_random"),
    Fault("runtime/order.py", "found >= count", "found > count", f"{ORDER}::test_a_permutation_has_each_number_once"),
    Fault(
        "runtime/order.py",
        "BLOCK = 1 << 14",
        "BLOCK = 1 << 24",
        f"{ORDER}::test_a_billion_samples_take_neither_memory_nor_time",
    ),
    Fault(
        "runtime/order.py",
        "np.arange(process.rank, batch_size, size,",
        "np.arange(0, batch_size, size,",
        f"{ORDER}::test_however_a_step_is_shared_it_has_the_same_samples",
    ),
    Fault(
        "runtime/order.py",
        "range(process.rank, length, process.world_size)",
        "range(0, length, process.world_size)",
        f"{ORDER}::test_an_evaluation_reads_every_sample_once",
    ),
    Fault(
        "runtime/loader.py",
        "            seed_all(mix(part.key, position), CPU)\n",
        "",
        f"{LOADER}::test_what_is_drawn_does_not_depend_on_who_draws_or_from_where",
    ),
    Fault(
        "runtime/order.py",
        "mix(seed, 1, step)",
        "mix(seed, 1)",
        f"{LOADER}::test_what_is_drawn_does_not_depend_on_who_draws_or_from_where",
    ),
    Fault(
        "runtime/loader.py",
        "    atexit.register(_kill_workers)\n",
        "",
        f"{LOADER}::test_nothing_waits_when_a_process_dies",
    ),
    Fault(
        "runtime/loader.py",
        "    threading.Thread(target=end_with_parent, daemon=True).start()\n",
        "",
        f"{LOADER}::test_nothing_waits_when_a_process_dies",
    ),
    Fault(
        "runtime/loader.py",
        "blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)",
        "blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])",
        f"{LOADER}::test_nothing_waits_when_a_process_dies",
    ),
    Fault(
        "runtime/loader.py",
        "process.stop.wait_for(next, items, END)",
        "next(items, END)",
        f"{LOADER}::test_a_signal_ends_a_run_that_waits_for_data",
    ),
    Fault(
        "runtime/loader.py",
        "resource_tracker.ensure_running()",
        "pass",
        f"{LOADER}::test_nothing_waits_when_a_process_dies",
    ),
    Fault(
        "runtime/loader.py",
        "        process.stop.check()  # the signal may have ended a process that workers need\n",
        "",
        f"{LOADER}::test_what_fails_after_a_signal_to_all_processes_is_a_stop",
    ),
    # Processes that hang
    Fault(
        "runtime/heartbeat.py",
        "if stuck and behind and life",
        "if stuck and life",
        f"{HEARTBEAT}::test_all_may_be_busy_for_long",
    ),
    Fault(
        "runtime/heartbeat.py",
        "if life.signs != LEFT}",
        "}",
        f"{HEARTBEAT}::test_who_has_left_is_not_missed",
    ),
    Fault(
        "runtime/heartbeat.py",
        "lives[0].signs == ENDED",
        "False",
        f"{RENDEZVOUS}::test_a_process_that_keeps_the_other_waiting_is_named",
    ),
    Fault(
        "runtime/rendezvous.py",
        "heartbeat.missing() if heartbeat and not known else ",
        "",
        f"{RENDEZVOUS}::test_a_process_that_keeps_the_other_waiting_is_named",
    ),
    # Evaluation and gradients
    Fault(
        "runtime/evaluation.py",
        "            module.training = training\n",
        "            module.train()\n",
        f"{EVALUATION}::test_an_evaluation_leaves_each_module_in_its_mode",
    ),
    Fault(
        "runtime/evaluation.py", "    model.eval()\n", "", f"{EVALUATION}::test_an_evaluation_leaves_nothing_to_chance"
    ),
    Fault(
        "runtime/evaluation.py",
        "for found in process.gather(mine) if found]",
        "for found in [mine]]",
        f"{EVALUATION}::test_what_is_measured_does_not_depend_on_the_processes",
    ),
    Fault(
        "runtime/evaluation.py",
        "@torch.no_grad()\n",
        "",
        f"{EVALUATION}::test_what_is_measured_does_not_depend_on_the_batch_size",
    ),
    Fault(
        "runtime/steps.py",
        "(clip / (norm + 1e-6)).clamp(max=1)",
        "(clip / (norm + 1e-6))",
        f"{DIST}::test_gradients_are_scaled_to_their_mean_then_to_the_norm",
    ),
    Fault(
        "runtime/steps.py",
        "    if clip:\n",
        "    if True:\n",
        f"{DIST}::test_gradients_are_scaled_to_their_mean_then_to_the_norm",
    ),
    Fault(
        "runtime/steps.py",
        "if parameter.requires_grad and parameter.grad is None:",
        "if False:",
        "runtime/test_rendezvous.py::test_two_processes_end_alike_and_say_why_once[leaves unused-2-the loss does not depend on 1.weight]",
    ),
    # Processes and signals
    Fault("runtime/dist.py", '"SIGUSR1", ', "", f"{DIST}::test_a_signal_is_noted"),
    Fault("runtime/dist.py", '"SIGINT", ', "", f"{DIST}::test_a_signal_is_noted"),
    Fault(
        "runtime/dist.py",
        "if self.number and time.monotonic() - self._noted > 1:",
        "if self.number:",
        f"{DIST}::test_a_second_signal_does_not_wait_but_one_that_follows_at_once_is_the_same",
    ),
    Fault(
        "runtime/dist.py",
        "if self.number and time.monotonic() - self._noted > 1:",
        "if False:",
        f"{DIST}::test_a_second_signal_does_not_wait_but_one_that_follows_at_once_is_the_same",
    ),
    Fault(
        "runtime/dist.py",
        "        for number, handler in handlers.items():\n            signal.signal(number, handler)\n",
        "        pass\n",
        f"{DIST}::test_a_signal_is_noted",
    ),
    Fault(
        "runtime/dist.py",
        "if signal.getsignal(number) != signal.SIG_IGN:",
        "if True:",
        f"{DIST}::test_a_signal_that_is_ignored_stays_ignored",
    ),
    Fault(
        "runtime/dist.py",
        "if threading.current_thread() is threading.main_thread():",
        "if True:",
        f"{DIST}::test_a_run_in_a_thread_leaves_signals_alone",
    ),
    Fault(
        "runtime/dist.py",
        "        return max(numbers)\n",
        "        return numbers[0]\n",
        f"{DIST}::test_a_signal_to_any_process_stops_all",
    ),
    Fault(
        "runtime/dist.py",
        "except (UserError, OSError) as error:",
        "except UserError as error:",
        f"{DIST}::test_an_error_of_the_main_process_is_raised_in_all_and_reported_by_it",
    ),
    Fault(
        "runtime/dist.py",
        "            except BrokenPipeError:\n",
        "            except ZeroDivisionError:\n",
        f"{DIST}::test_nobody_reads_any_more",
    ),
    Fault(
        "runtime/dist.py",
        "            dist.broadcast(buffer, src=0)\n",
        "            pass\n",
        "runtime/test_rendezvous.py::test_two_processes_end_alike_and_say_why_once[agrees-0-]",
    ),
    Fault(
        "runtime/heartbeat.py",
        "        os._exit(2)\n\n\ndef",
        "\n\ndef",
        f"{RENDEZVOUS}::test_a_process_that_keeps_the_other_waiting_is_named",
    ),
    Fault(
        "runtime/rendezvous.py",
        "            _report_once(error, store, heartbeat)\n",
        "",
        "runtime/test_rendezvous.py::test_two_processes_end_alike_and_say_why_once",
    ),
    Fault(
        "runtime/launch.py",
        "    if rank >= world_size:\n",
        "    if False:\n",
        "runtime/test_launch.py::test_ranks_that_make_no_sense_are_refused",
    ),
    Fault(
        "runtime/launch.py",
        '("WORLD_SIZE", "SLURM_NTASKS", ',
        '("WORLD_SIZE", ',
        "runtime/test_launch.py::test_ranks_that_make_no_sense_are_refused",
    ),
    Fault(
        "runtime/launch.py",
        '.split(",")[0]',
        '.split(",")[-1]',
        "runtime/test_launch.py::test_other_launchers_say_what_torchrun_does",
    ),
    # Devices and reports
    Fault(
        "runtime/device.py",
        "nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)",
        "nullcontext()",
        "runtime/test_device.py::test_a_model_computes_in_the_precision",
    ),
    Fault(
        "runtime/device.py",
        'kind in ("auto", "mps") and built_for() == "mps"',
        "False",
        "runtime/test_device.py::test_processes_on_a_mac_train_on_the_cpu",
    ),
    Fault(
        "runtime/device.py",
        "FAILURES = (AssertionError, ",
        "FAILURES = (",
        "runtime/test_device.py::test_a_broken_gpu_is_refused_in_one_line",
    ),
    Fault(
        "runtime/device.py",
        "    np.random.seed(key & 0xFFFFFFFF)\n",
        "",
        "runtime/test_device.py::test_what_is_drawn_follows_from_the_seed",
    ),
    Fault(
        "runtime/device.py",
        "    random.seed(key)\n",
        "",
        "runtime/test_device.py::test_what_is_drawn_follows_from_the_seed",
    ),
    Fault(
        "runtime/device.py",
        "get_device_capability(device) < (8, 0)",
        "get_device_capability(device) < (7, 0)",
        "runtime/test_device.py::test_bf16_is_not_emulated",
    ),
    Fault(
        "runtime/device.py",
        "    if isinstance(batch, MutableMapping):\n",
        "    if False:\n",
        "runtime/test_device.py::test_a_batch_of_any_nesting_goes_to_the_device",
    ),
    Fault(
        "runtime/report.py",
        'if record["step"] <= step]',
        "]",
        f"{REPORT}::test_steps_that_come_again_are_dropped_and_what_cannot_be_read",
    ),
    Fault(
        "runtime/report.py",
        "self.process.main_only(self._log, step, metrics)",
        "self._log(step, metrics)",
        f"{REPORT}::test_only_the_main_process_writes",
    ),
    Fault(
        "runtime/report.py",
        "        except FAILURES as error:",
        "        except KeyError as error:",
        f"{REPORT}::test_curves_that_cannot_be_drawn_cost_one_line",
    ),
    Fault(
        "runtime/report.py",
        "            self._picture = self._draw()\n",
        "            pass\n",
        f"{REPORT}::test_curves_are_renewed_at_each_evaluation",
    ),
    Fault(
        "runtime/report.py",
        "        if self._bar:\n            self._notes.append(line)\n        else:\n    ",
        "",
        f"{REPORT}::test_on_a_terminal_nothing_is_printed_while_there_is_a_bar",
    ),
    Fault(
        "runtime/report.py",
        "self.process.print(self.process.main_only(lambda: self._picture or self._draw()))",
        "self.process.print(self._picture or self.process.main_only(self._draw))",
        f"{TRAIN}::test_processes_and_parts_change_nothing",
    ),
    Fault(
        "runtime/progress.py",
        "- self._begin_step",
        "",
        f"{PROGRESS}::test_a_line_has_what_one_judges_a_run_by",
    ),
    Fault(
        "runtime/progress.py",
        "        while not self._closed.wait(0.25):\n",
        "        while not self._closed.wait(5):\n",
        f"{PROGRESS}::test_a_bar_moves_by_itself_and_leaves_its_last_line",
    ),
    Fault(
        "runtime/progress.py",
        '        self._write("\\n")\n',
        "",
        f"{PROGRESS}::test_a_bar_moves_by_itself_and_leaves_its_last_line",
    ),
    Fault(
        "runtime/progress.py",
        "room = min(40, width - len(text)",
        "room = min(40, width",
        f"{PROGRESS}::test_a_bar_shows_the_newest_loss_and_the_measure_at_80_columns",
    ),
    Fault(
        "runtime/curves.py",
        'mark = "o" if len(steps) <= MARKED else ""',
        'mark = ""',
        f"{CURVES}::test_a_picture_has_a_mark_for_each_point",
    ),
    Fault(
        "runtime/curves.py",
        "all(value > 0 for value in values)",
        "values",
        f"{CURVES}::test_a_scale_is_logarithmic_where_that_shows_more",
    ),
    Fault(
        "runtime/curves.py",
        'name.partition("validation_")[2] or name',
        "name",
        f"{CURVES}::test_both_sets_of_a_figure_are_together_and_the_last_of_a_step_counts",
    ),
    Fault(
        "runtime/settings.py",
        "if unknown and strictly:",
        "if False:",
        f"{SETTINGS}::test_a_mistake_in_a_file_is_named",
    ),
    Fault(
        "runtime/settings.py",
        "name in given and not is_alike(value, given[name])",
        "False",
        f"{SETTINGS}::test_a_mistake_in_a_file_is_named",
    ),
    Fault(
        "runtime/settings.py",
        "any(not line.startswith",
        "all(not line.startswith",
        f"{SETTINGS}::test_the_revision_of_the_code",
    ),
    Fault(
        "runtime/settings.py",
        "default = field.default if factory is MISSING else factory()",
        "default = field.default",
        f"{SETTINGS}::test_what_differs_from_the_defaults",
    ),
    Fault(
        "runtime/command.py",
        "read_config(commands[name], given.config)",
        "commands[name]()",
        "runtime/test_command.py::test_a_file_gives_settings_and_the_command_line_changes_them",
    ),
    Fault(
        "runtime/performance.py",
        "* rate / self.process.world_size / self.peak",
        "* rate / self.peak",
        f"{PERFORMANCE}::test_the_share_of_the_peak_is_that_of_one_process",
    ),
    Fault(
        "runtime/performance.py",
        "copied = copy.deepcopy(model, memo)",
        "copied = model",
        f"{PERFORMANCE}::test_flops_are_counted_without_touching_the_model",
    ),
    Fault(
        "runtime/performance.py",
        "active=3",
        "active=2",
        f"{PERFORMANCE}::test_a_trace_is_of_a_few_steps",
    ),
    Fault(
        "runtime/state.py",
        "* scale(step + 1)",
        "* scale(step)",
        f"{STATE}::test_other_steps_are_said_with_the_learning_rate",
    ),
    Fault(
        "runtime/state.py",
        '            if "steps" in changed:\n                problem',
        "            if False:\n                problem",
        f"{STATE}::test_a_finished_run_is_not_taken_for_one_with_other_settings",
    ),
    Fault(
        "train.py",
        "and self.checkpoints.evaluated < step:",
        "and False:",
        f"{TRAIN}::test_a_signal_in_an_evaluation_does_not_lose_it",
    ),
    Fault(
        "train.py",
        "config.batch_size / (count + (count == 0))",
        "config.batch_size / count",
        f"{TRAIN}::test_a_step_may_have_nothing_to_learn_from",
    ),
    Fault(
        "runtime/state.py",
        'if self.chosen_by != f"{mode} {monitor}":',
        "if False:",
        f"{STATE}::test_the_best_by_one_figure_is_not_the_best_by_another",
    ),
    Fault(
        "runtime/checkpoint.py",
        "        except DamagedCheckpoint as error:\n            why",
        "        except KeyError as error:\n            why",
        f"{CHECKPOINT}::test_the_best_is_the_last_to_resume_from_and_the_first_to_evaluate",
    ),
    Fault(
        "runtime/evaluation.py",
        "        seed_all(mix(settings.seed, 4), process.device)\n",
        "",
        f"{TRAIN}::test_an_evaluation_has_the_data_and_the_network_of_the_training",
    ),
    Fault(
        "runtime/steps.py",
        "            buffer.copy_(value)\n",
        "            pass\n",
        f"{LOADER}::test_a_signal_between_the_parts_of_a_step_undoes_the_first",
    ),
    Fault(
        "runtime/steps.py",
        "if max(norms) > 1.01 * min(norms):",
        "if False:",
        f"{DIST}::test_gradients_that_differ_between_processes_are_refused",
    ),
    Fault(
        "runtime/evaluation.py",
        "{name: None for found in every for name in found}",
        "every[0]",
        f"{EVALUATION}::test_a_figure_may_be_of_one_process_alone",
    ),
    Fault(
        "runtime/loader.py",
        "except StopIteration as error:",
        "except ZeroDivisionError as error:",
        f"{LOADER}::test_a_data_set_that_ends_early_is_an_error",
    ),
    Fault(
        "runtime/order.py",
        "    except TypeError as error:\n        kind",
        "    except KeyError as error:\n        kind",
        f"{ORDER}::test_a_stream_is_refused",
    ),
    Fault(
        "runtime/__init__.py",
        "class Stopped(BaseException):",
        "class Stopped(Exception):",
        f"{LOADER}::test_a_signal_ends_a_run_that_waits_for_data",
    ),
    Fault(
        "runtime/dist.py",
        "if any(is_lazy(parameter) for parameter in model.parameters()):",
        "if False:",
        f"{DIST}::test_a_layer_without_a_size_is_refused",
    ),
    Fault(
        "runtime/state.py",
        "values[key] = value.to(values[key].device)",
        "pass",
        f"{STATE}::test_the_state_of_the_optimizer_keeps_its_precision",
    ),
    Fault(
        "runtime/state.py",
        "if repr(value) != repr(before[n])]",
        "if value != before[n]]",
        f"{STATE}::test_a_setting_that_is_not_a_number_has_not_changed",
    ),
    Fault(
        "runtime/state.py",
        "if not self.names.keys() >= set(given):",
        "if False:",
        f"{STATE}::test_a_parameter_of_another_model_is_refused",
    ),
    Fault(
        "runtime/state.py",
        "if monitor not in figures:",
        "if False:",
        f"{STATE}::test_what_cannot_choose_the_best_is_refused",
    ),
    Fault(
        "runtime/checkpoint.py",
        "    except (RuntimeError, zlib.error) as error:",
        "    except ZeroDivisionError as error:",
        f"{CHECKPOINT}::test_what_is_damaged_is_skipped",
    ),
    Fault(
        "runtime/checkpoint.py",
        "process.stop.wait_for(lock.acquire, LOCK_LIMIT)",
        "lock.acquire(timeout=0)",
        f"{CHECKPOINT}::test_a_signal_ends_the_wait_for_a_folder",
    ),
    # The doctor
    Fault(DOCTOR, 'here.build[:2] == "ro" and "HSA_OVERRIDE_GFX_VERSION"', 'False and "HSA"', WRONG),
    Fault(DOCTOR, "if key in here.environ]", "if False]", WRONG),
    Fault(DOCTOR, "HIDING.get(own[0].vendor, [])", 'HIDING["amd"]', WRONG),
    Fault(DOCTOR, 'elif own and not found["devices"]:', "elif False:", WRONG),
    Fault(DOCTOR, 'not working or "CUDA_VISIBLE_DEVICES" in here.environ', "not working", WRONG),
    Fault(DOCTOR, 'for text in found["warnings"]:', "for text in []:", WRONG),
    Fault(DOCTOR, '{"ro": ["kfd", "dri/renderD*"]', '{"ro": ["dri/renderD*"]', WRONG),
    Fault(DOCTOR, "        if not nodes and not here.wsl:", "        if False:", WRONG),
    Fault(DOCTOR, "        if not nodes and not here.wsl:", "        if not nodes:", RIGHT),
    Fault(
        DOCTOR,
        "not any(os.access(node, os.R_OK | os.W_OK) for node in nodes)",
        "False",
        f"{SITUATIONS}::test_a_gpu_that_may_not_be_opened_is_an_error",
    ),
    Fault(
        DOCTOR,
        "releases = dict.fromkeys([given",
        "releases = dict.fromkeys([*reversed(list(RELEASES)), given",
        f"{SITUATIONS}::test_advice_for_one_machine",
    ),
    Fault(
        DOCTOR,
        ", b[:2] != answered[0][:2]",
        "",
        WRONG,
    ),
    Fault(
        DOCTOR,
        "range(1, min(len(machines), 3) + 1)",
        "range(1, 2)",
        f"{SITUATIONS}::test_advice_for_a_team",
    ),
    Fault(DOCTOR, "if free < 1 << 30:", "if free < 1 << 29:", WRONG),
    Fault(DOCTOR, "if size < 1 << 30:", "if False:", WRONG),
    Fault(DOCTOR, '    elif here.build[:2] == "cu":\n', "    elif False:\n", WRONG),
    Fault(DOCTOR, 'if not here.python["headers"] or not shutil', "if not shutil", WRONG),
    Fault(
        DOCTOR,
        'if not here.python["headers"] or not shutil',
        'if not here.python["headers"] or False and shutil',
        WRONG,
    ),
    Fault(
        DOCTOR,
        '"machine": asdict(here.machine)}',
        '"machine": here.environ}',
        f"{SITUATIONS}::test_json_has_a_schema_and_no_secrets",
    ),
    Fault(DOCTOR, 'same = int(found[2]) == numbers(target)[0] or found[1] == "compute_"', "same = True", WRONG),
    Fault(DOCTOR, " <= numbers(target)\n", " == numbers(target)\n", RIGHT),
    Fault(DOCTOR, "    if gpu.target in JETSON:\n", "    if False:\n", WRONG),
    Fault(DOCTOR, "newer(machine.cuda, build[2:4])", "True", WRONG),
    Fault(DOCTOR, "    if fix:\n        text", "    if False:\n        text", WRONG),
    Fault(
        DOCTOR, "threads = int(known[0]) if known else cpus", "threads = int(known.string) if known else cpus", RIGHT
    ),
    Fault(DOCTOR, "int(limit) / int(period[0])", "int(limit) / 1e6", WRONG),
    Fault(DOCTOR, '"sys/fs/cgroup/cpu.max") or', '"sys/fs/cgroup/cpu.max") and', WRONG),
    Fault(DOCTOR, '"RELEASE_ARM64" in', '"none" in', f"{SITUATIONS}::test_rosetta_claims_an_intel_mac"),
    Fault(DOCTOR, 'elif machine.platform not in ANSWERS["platforms"]:', "elif False:", WRONG),
    Fault(DOCTOR, "here.build in wanted and version", "version", WRONG),
    Fault(DOCTOR, 'here.has_torch = "torch" not in here.changes', "here.has_torch = True", WRONG),
    Fault(DOCTOR, 'if problem or "torch" not in here.changes:', "if True:", WRONG),
    Fault(
        DOCTOR,
        "os.killpg(process.pid, signal.SIGKILL)",
        "process.kill()",
        f"{SITUATIONS}::test_a_process_that_hangs_ends_with_what_it_started",
    ),
    Fault(
        DOCTOR,
        'limits = [entry.get(one) for one in companions if one != "torchvision"]',
        "limits: list[Any] = []",
        f"{SITUATIONS}::test_a_fix_that_changes_answers_leads_to_what_it_says",
    ),
    Fault(
        DOCTOR,
        "if all(gets(build, one, release)",
        "if True or all(gets(build, one, release)",
        f"{SITUATIONS}::test_a_fix_that_changes_answers_leads_to_what_it_says",
    ),
    Fault(
        DOCTOR,
        "if there and package not in there:",
        "if False:",
        f"{SITUATIONS}::test_a_package_that_updates_know_by_another_name_is_an_error",
    ),
    Fault(
        DOCTOR,
        "remove * bool(direct) + ",
        "",
        f"{SITUATIONS}::test_a_companion_that_the_user_added_becomes_an_answer",
    ),
    Fault(
        DOCTOR,
        "(?<=//)\\S+(?=@)",
        "nothing",
        f"{SITUATIONS}::test_a_process_may_fail",
    ),
    Fault(
        DOCTOR,
        "os.dup2(2, 1)",
        "",
        f"{SITUATIONS}::test_an_import_may_print_fail_crash_or_hang",
    ),
    Fault(
        DOCTOR,
        "ThreadPoolExecutor(len(BOUND))",
        "ThreadPoolExecutor(1)",
        f"{SITUATIONS}::test_imports_run_at_once",
    ),
    Fault(
        DOCTOR,
        'here.environment = Path(here.sync.get("environment", {}).get("path", here.environment))',
        "pass",
        f"{SITUATIONS}::test_the_environment_is_the_one_of_uv",
    ),
    Fault(
        DOCTOR, """here.build in wanted and version.startswith(f"{ANSWERS['torch']}.")""", "here.build in wanted", WRONG
    ),
    Fault(DOCTOR, 'if found["machine"] != machine:', "if False:", WRONG),
    Fault(DOCTOR, 'if self.driver_problem in ("error 34", "error 100"):', "if False:", RIGHT),
    Fault(
        DOCTOR, 'yield "error" if here.build[:2] == "cu" else "warning", text, fix', 'yield "error", text, fix', WRONG
    ),
    Fault(DOCTOR, 'if here.machine.system == "linux" else []:', "if True else []:", RIGHT),
    Fault(
        DOCTOR,
        "if here.has_torch and name in",
        "if name in",
        f"{SITUATIONS}::test_packages_are_not_imported_without_the_right_torch",
    ),
    Fault(
        DOCTOR,
        "    for process in RUNNING:\n",
        "    for process in []:\n",
        f"{SITUATIONS}::test_an_interrupt_and_a_closed_pipe_are_no_tracebacks",
    ),
    # The files around the package
    Fault(
        "template/pyproject.toml.jinja",
        "strict = true",
        "strict = false",
        "tests/test_rendered.py::test_types_are_checked_strictly",
    ),
    Fault(
        "includes/wheels.jinja",
        "torch_index.rstrip('/') !=",
        "torch_index !=",
        "tests/test_mirrors.py::test_pytorchs_own_index_with_a_slash_is_no_mirror",
    ),
    Fault(
        "template/pyproject.toml.jinja",
        "torch_index.rstrip('/')",
        "torch_index",
        "tests/test_mirrors.py::test_a_slash_at_the_end_changes_nothing",
    ),
    Fault(
        "template/Dockerfile.jinja",
        "    USER=user\nUSER 1000\n",
        "    USER=user\n",
        f"{CONTAINERS}::test_no_container_runs_as_root",
    ),
    Fault(
        "template/Dockerfile.jinja",
        "/home/user/.uv/venv\nUSER 1000\n",
        "/home/user/.uv/venv\n",
        f"{CONTAINERS}::test_no_container_runs_as_root",
    ),
    Fault(
        "template/Dockerfile.jinja",
        "export --quiet --locked",
        "export --quiet",
        f"{CONTAINERS}::test_the_layers_of_an_image_have_the_packages_that_move_together",
    ),
    Fault(
        "template/Dockerfile.jinja",
        "(audio|codec|vision)?",
        "(audio|vision)?",
        f"{CONTAINERS}::test_the_layers_of_an_image_have_the_packages_that_move_together",
    ),
    Fault(
        "template/Dockerfile.jinja",
        "triton(-.*)?",
        "triton",
        f"{CONTAINERS}::test_the_layers_of_an_image_have_the_packages_that_move_together",
    ),
    Fault(
        "template/Dockerfile.jinja",
        "'cuda|nvidia'",
        "'nvidia'",
        f"{CONTAINERS}::test_the_layers_of_an_image_have_the_packages_that_move_together",
    ),
    Fault(
        "template/Dockerfile.jinja",
        'RUN test "$(uname -m)" = {{ machine }}',
        "RUN true",
        f"{CONTAINERS}::test_an_image_of_one_platform_is_refused_on_the_other",
    ),
    Fault("template/compose.yaml.jinja", "    shm_size: 8gb\n", "", f"{CONTAINERS}::test_compose_passes_the_gpus_on"),
    Fault(
        "template/compose.gpu.yaml.jinja", "      - /dev/kfd\n", "", f"{CONTAINERS}::test_compose_passes_the_gpus_on"
    ),
    Fault(
        "template/compose.gpu.yaml.jinja",
        "    gpus: all\n",
        "    devices: []\n",
        f"{CONTAINERS}::test_compose_passes_the_gpus_on",
    ),
    Fault(
        f"{WORKFLOWS}/image.yml.jinja",
        '    tags: ["v*"]\n',
        '    tags: ["v*"]\n  pull_request:\n',
        f"{PIPELINES}::test_an_image_is_pushed_for_a_tag_alone",
    ),
    Fault(
        f"{WORKFLOWS}/image.yml.jinja",
        "    needs: image\n",
        "",
        f"{PIPELINES}::test_each_machine_pushes_its_image_and_the_last_job_joins_them",
    ),
    Fault(
        f"{WORKFLOWS}/ci.yml.jinja",
        "      - run: uv run pytest\n",
        "",
        f"{PIPELINES}::test_a_pipeline_checks_what_the_readme_says",
    ),
    Fault(GITLAB, "    - uv run pytest\n", "", f"{PIPELINES}::test_a_pipeline_checks_what_the_readme_says"),
    Fault(
        f"{WORKFLOWS}/template.yml",
        "23 6 * * 1",
        "23 6 31 2 *",
        f"{PIPELINES}::test_the_template_is_looked_at_each_week",
    ),
    Fault(GITLAB, "$CI_COMMIT_TAG =~", "$CI_COMMIT_TAG !~", f"{PIPELINES}::test_an_image_is_pushed_for_a_tag_alone"),
    Fault(
        GITLAB,
        "$CI_COMMIT_BRANCH == ",
        "$CI_COMMIT_BRANCH != ",
        f"{PIPELINES}::test_gpus_are_tested_where_there_is_a_runner",
    ),
    Fault(BATCH, "138 | 143)", "143)", f"{COMMANDS}::test_a_batch_job_that_has_to_stop_is_queued_again"),
    Fault(BATCH, ":+_$SLURM_ARRAY_TASK_ID", ":+", f"{COMMANDS}::test_a_batch_job_that_has_to_stop_is_queued_again"),
    Fault(
        BATCH, "exec scontrol requeue", "exec true", f"{COMMANDS}::test_a_batch_job_that_has_to_stop_is_queued_again"
    ),
    Fault(
        BATCH,
        "export SRUN_CPUS_PER_TASK",
        "export CPUS",
        f"{COMMANDS}::test_a_batch_job_that_has_to_stop_is_queued_again",
    ),
    Fault(BATCH, "USR1@120", "USR1@1", f"{COMMANDS}::test_slurm_gives_a_job_time_for_its_checkpoint"),
]


def notices(project: Path, source: Path, fault: Fault | None, tests: list[str]) -> bool:
    """Return whether a test fails in a copy of a project, or of the template, that has this fault.

    Args:
        project: Where the environment is.
        source: What is copied.
    """
    of_template = source == ROOT
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for folder in ("docs", "includes", "template", "tests") if of_template else ("src", "tests"):
            shutil.copytree(source / folder, copy / folder)
        for file in ("copier.yml", "builds.yml", "pyproject.toml") if of_template else ("pyproject.toml",):
            shutil.copy(source / file, copy)
        if fault:
            path = copy / (fault.file if of_template else f"src/demo/{fault.file}")
            text = path.read_text(encoding="utf-8")
            assert fault.old in text, f"{fault.file} has no {fault.old!r}"
            path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        own = project / ".venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        environ = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
        command = [
            sys.executable if of_template else str(own),
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            *tests,
        ]
        where = copy if of_template else copy / "tests"
        options: dict[str, Any] = {"cwd": where, "env": environ, "capture_output": True, "text": True}
        try:
            done = subprocess.run(command, timeout=100, check=False, **options)
        except subprocess.TimeoutExpired:
            return True
        if done.returncode > 2 or (fault is None and done.returncode):
            raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
        return done.returncode != 0  # a signal may have ended pytest itself


def main() -> int:
    project, words = Path(sys.argv[1]).resolve(), sys.argv[2:]
    faults = [fault for fault in FAULTS if not words or any(word in " ".join(fault) for word in words)]
    survivors = 0
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(os.cpu_count()) as pool:
        text = rendered_again(project, Path(name) / "demo", data="text")

        def source(fault: Fault) -> Path:
            return ROOT if fault.test.startswith("tests/") else text if fault.data == "text" else project

        for place in (project, text, ROOT):  # without a fault, all pass
            if tests := sorted({fault.test for fault in faults if source(fault) == place}):
                notices(project, place, None, tests)
        noticed = pool.map(lambda fault: notices(project, source(fault), fault, [fault.test]), faults)
        for fault, seen in zip(faults, noticed, strict=True):
            survivors += not seen
            print(
                f"{'noticed' if seen else 'SURVIVES'}: {fault.file}: {fault.old.strip()!r} -> {fault.new.strip()!r}",
                flush=True,
            )
    print(f"{len(faults)} faults, {survivors} survivors")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
