"""Fits a line by gradient descent, with whatever values the run was given."""

from taskloom import get_config

config = get_config()
xs = [n / 10 for n in range(10)]
ys = [config["slope"] * x + 1 for x in xs]
slope = offset = 0.0
for step in range(config["steps"]):
    errors = [slope * x + offset - y for x, y in zip(xs, ys, strict=True)]
    if config["loss"] == "absolute":
        errors = [(error > 0) - (error < 0) for error in errors]
    slope -= config["learning_rate"] * sum(e * x for e, x in zip(errors, xs, strict=True)) / len(xs)
    offset -= config["learning_rate"] * sum(errors) / len(xs)
    if config["verbose"] and step % 50 == 0:
        print(f"step {step}: {slope:.3f} x + {offset:.3f}")
print(f"{slope:.2f} x + {offset:.2f} with learning_rate {config['learning_rate']}")
