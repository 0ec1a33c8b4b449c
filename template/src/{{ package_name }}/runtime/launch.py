"""The variables of the launcher of this process: torchrun, srun or mpirun."""

from __future__ import annotations

import os
import re
from zlib import crc32

from . import UserError


def launched() -> dict[str, str]:
    """Return the variables that torchrun would set, if srun or mpirun started several processes.

    Set them in the environment: libraries read them too.
    """
    given = os.environ
    if "LOCAL_RANK" in given:
        return {}
    if given.get("OMPI_COMM_WORLD_SIZE", "1") != "1":  # first, since srun may have started mpirun
        prefix = "OMPI_COMM_WORLD_"
        found = {name: given[prefix + name] for name in ("RANK", "LOCAL_RANK")}
        found["WORLD_SIZE"] = given[f"{prefix}SIZE"]
        one_host = given[f"{prefix}LOCAL_SIZE"] == given[f"{prefix}SIZE"]
        first = "localhost" if one_host else ""
        start = given.get("PMIX_NAMESPACE") or given.get("OMPI_MCA_ess_base_jobid", "")
    elif given.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        found = {"RANK": given["SLURM_PROCID"], "WORLD_SIZE": given["SLURM_STEP_NUM_TASKS"]}
        found["LOCAL_RANK"] = "0" if _has_gpu_of_its_own() else given["SLURM_LOCALID"]
        # The first host: node07 of node[07-10,12],other
        first = re.sub(r"\[(\w+)[^]]*\]", r"\1", given["SLURM_STEP_NODELIST"]).split(",")[0]
        start = f"{given['SLURM_JOB_ID']}.{given.get('SLURM_STEP_ID', '')}"
    else:
        return {}
    port = 20000 + crc32(start.encode()) % 10000
    found.update(MASTER_ADDR=first, MASTER_PORT=str(port), START_OF_RUN=start)
    return {name: given.get(name, value) for name, value in found.items()}


def name_of_start() -> str:
    """Return a name that only the processes of this start of a run share."""
    names = ("START_OF_RUN", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
    return " ".join(os.environ.get(name, "") for name in names)


def ranks() -> tuple[int, int, int | None]:
    """Return the rank, the world size and the local rank, which is None without a launcher."""
    given = os.environ
    if "LOCAL_RANK" not in given:
        for name in ("WORLD_SIZE", "SLURM_NTASKS", "PMI_SIZE"):
            if given.get(name, "1") not in ("", "1"):
                problem = f"{name} is {given[name]}, but this is one process"
                launcher = "srun" if name == "SLURM_NTASKS" else "torchrun"
                raise UserError(f"{problem}: start all with {launcher}, or unset {name}")
        return 0, 1, None
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "MASTER_ADDR"):
        value = given.get(name, "")
        if not (value if name == "MASTER_ADDR" else value.isdigit()):
            way = "start the processes with torchrun"
            if "OMPI_COMM_WORLD_SIZE" in given:
                way = "use mpirun -x MASTER_ADDR=HOST -x MASTER_PORT=29500"
            raise UserError(f"{name} is {value!r}: {way}")
    rank, world_size = int(given["RANK"]), int(given["WORLD_SIZE"])
    if rank >= world_size:
        raise UserError(f"RANK is {rank}, but WORLD_SIZE is {world_size}: ranks begin at 0")
    return rank, world_size, int(given["LOCAL_RANK"])


def _has_gpu_of_its_own() -> bool:
    """Return whether each task sees only one of the GPUs that the job has on this node."""
    names = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
    one = any(os.environ.get(name, ",").count(",") == 0 for name in names)
    return one and os.environ.get("SLURM_GPUS_ON_NODE", "1") != "1"
