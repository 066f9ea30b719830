"""Command lines to try, shown below the help of each command."""

from __future__ import annotations

_LINES = {
    "run": (
        "microbench run --quick",
        "microbench run --only 'fma.f32.*' --only 'read.*' --time-limit 20s",
        "microbench run --device cuda:0 --json - > result.json",
    ),
    "list": ("microbench list kernels --device cuda:0 --arch sm_90a", "microbench list operators"),
    "doctor": ("microbench doctor", "microbench doctor --device cuda:0"),
    "check": (
        "microbench check --device cuda:0",
        "microbench check --device cuda:0 --only 'wgmma.*' --json -",
        "microbench check --backend cuda --under 'compute-sanitizer --tool memcheck'",
    ),
    "nominal": ("microbench nominal", "microbench nominal A100", "microbench nominal rtx"),
    "report": (
        "microbench report results/DEVICE/X.json --html page.html --png roofline.png",
        "microbench report results/DEVICE/X.json --csv - | column -ts,",
    ),
    "completion": (
        "microbench completion bash > ~/.local/share/bash-completion/completions/microbench",
        "microbench completion zsh > ~/.zfunc/_microbench  # a folder in fpath",
        "microbench completion fish > ~/.config/fish/completions/microbench.fish",
    ),
    "compare": (
        "microbench compare old.json new.json --fail-if compute:3% --fail-if memory:5%",
        "microbench compare monday/ tuesday/ wednesday/",
    ),
    "baseline": (
        "microbench run --quick --repeat 3 --out monday && microbench baseline save monday",
        "microbench run --quick && microbench baseline check --fail-if compute:3%",
    ),
    "history": ("microbench history results", "microbench history results --keep-last 30 --delete"),
    "population": ("microbench population fleet/", "microbench population results/DEVICE/X.json --among fleet/"),
    "audit": ("microbench audit device_info.py", "microbench audit system.json --against results/DEVICE/X.json"),
    "export": ("microbench export results/DEVICE/X.json --to pytorch -o my_device.py",),
    "predict": (
        "microbench predict --op matmul:m=1024,n=512,k=64,dtype=f32",
        "microbench predict --ops rows.csv > predicted.csv",
        "microbench predict --model 'torch.nn:Transformer(batch_first=True)' --input 32x10x512 --input 32x20x512",
        "microbench predict --op matmul:m=4096,n=4096,k=4096,dtype=bf16 --calibration a100.json --on H200",
    ),
    "fit": (
        "microbench fit rows.csv --nominal A100 -o a100.json",
        "microbench fit twenty-rows.csv --like a100.json --on card.toml -o card.json",
    ),
    "validate": ("microbench validate --png calibration.png",),
}

EXAMPLES = {name: "\n\n".join(("For example:", *lines)) for name, lines in _LINES.items()}
