"""A multi-turn chat: each turn is a graded run over the whole conversation so far, and all of them are one job."""

import asyncio

from taskloom.evals import Chat, Environment, Run

env = Environment("waiter")
MENU = {"soup": 5, "bread": 2, "tea": 3}


@env.template(description="One turn of an order in a small restaurant")
async def turn(messages: list[dict]):
    reply = yield {"prompt": messages}
    ordered = [
        dish for dish in MENU for message in messages if message["role"] == "user" and dish in message["content"]
    ]
    due = sum(MENU[dish] for dish in ordered)
    yield float(f"{due} euros" in str(reply))


async def waiter(run: Run) -> None:
    """Remembers what was ordered, because the whole conversation is in its prompt."""
    said = " ".join(m["content"] for m in run.prompt_messages if m["role"] == "user")
    dishes = [dish for dish in MENU if dish in said]
    run.trace.content = f"{', '.join(dishes)}: that makes {sum(MENU[dish] for dish in dishes)} euros."


async def main() -> None:
    async with Chat(turn, waiter) as chat:
        for text in ("A soup, please.", "And bread with it.", "And a tea afterwards."):
            print(f"guest:  {text}")
            print(f"waiter: {await chat.send(text)}")
    print(f"{len(chat.job.runs)} turns, mean reward {chat.job.reward:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
