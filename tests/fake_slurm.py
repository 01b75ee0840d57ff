"""A SLURM of one machine, as far as submitit asks for it: sbatch starts the tasks of an array at once."""

import sys
from pathlib import Path

SBATCH = """
import os, re, subprocess
script = sys.argv[1]
text = Path(script).read_text()
Path(__file__).with_name("script.txt").write_text(text)
if "--partition=nowhere" in text:
    sys.exit("sbatch: error: invalid partition specified: nowhere")
last = re.search(r"--array=0-([0-9]+)", text)
for task in range(int(last[1]) + 1 if last else 1):
    given = {"JOB_ID": 100 + task, "ARRAY_JOB_ID": 100, "ARRAY_TASK_ID": task} if last else {"JOB_ID": 100}
    given |= {"NTASKS": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "JOB_NUM_NODES": 1, "JOB_NODELIST": "localhost"}
    given |= {"JOB_NAME": "ils_lightning", "STEP_NUM_NODES": 1}
    environment = os.environ | {f"SLURM_{name}": str(value) for name, value in given.items()}
    subprocess.Popen(["bash", script], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("Submitted batch job 100")
"""
SRUN = """
import os
words = sys.argv[1:]
places = {"%A": os.environ.get("SLURM_ARRAY_JOB_ID", ""), "%a": os.environ.get("SLURM_ARRAY_TASK_ID", "")}
places |= {"%j": os.environ["SLURM_JOB_ID"], "%t": "0"}
for number, option in ((1, "--output"), (2, "--error")):
    name = words[words.index(option) + 1]
    for mark, value in places.items():
        name = name.replace(mark, value)
    os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
command = words[words.index("--error") + 2:]
os.execvp(command[0], command)
"""
SACCT = 'print("JobID|State|NodeList")'


def install(folder: Path) -> Path:
    """Writes the commands into `folder`, which is to come first on PATH; what sbatch was given is in script.txt."""
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scancel": ""}.items():
        command = folder / name
        command.write_text(f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\n{text}")
        command.chmod(0o755)
    return folder
