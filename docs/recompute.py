"""python3 recompute.py RECEIPT PRICES: what a request costs by the public price list, beside what its receipt says."""
import json, sys
from datetime import datetime, timezone
from fractions import Fraction as F
from math import ceil

FALLBACKS = {"cache_write_1h": ["cache_write_5m"], "cached_audio_input": ["cached_input_read", "audio_input"], "cached_image_input": ["cached_input_read", "image_input"]}
def utc(ms): return datetime.fromtimestamp(ms // 1000, timezone.utc)
def charge(statement, offer):
    record, book, factor = statement["record"], offer["list_price"], offer["multipliers"]
    by, used, done = record["priced_by"], record["usage"]["tokens"], utc(record["priced_by"]["completed_at"])
    card = {key: price for key, price in book["price"].items() if isinstance(price, str)}
    for change in book.get("scheduled", []):  # announced prices, from 00:00 UTC of a day
        if change["effective_from"] <= f"{utc(record['started_at']):%Y-%m-%d}": card.update(change["price"])
    for window in book.get("time_windows", []):  # hours of certain weekdays, by the time of completion
        if f"{done:%a}".lower() in window["days"] and window["start_utc"] <= f"{done:%H:%M}" < window["end_utc"]: card.update(window["price"])
    inputs, ground = sum(count for name, count in used.items() if "output" not in name), dict(card)
    steps = [step["price"] for step in book.get("tiers", []) if inputs > step["above_input_tokens"]]
    card.update(steps[-1] if steps else {})  # long prompts; a service tier scales them by what it is to the card below
    for key, price in book.get("service_tiers", {}).get(by.get("service_tier"), {}).items():
        if not steps: card[key] = price
        elif key in card: card[key] = F(card[key]) * F(price) / F(ground[key]) if F(price) else 0
    total = F(0)
    for name, count in used.items():  # the class's own price, else that of the first fallback that has one
        keys = ["thinking_mode_output"] * (by["thinking"] and name == "output") + [name] + FALLBACKS.get(name, []) + ["output" if "output" in name else "input"]
        total += count * F(next(card[key] for key in keys if key in card)) / 10**6
    total *= F(book.get("region_multipliers", {}).get(by.get("region"), 1))
    units, fee = record["usage"].get("units", {}), book["price"].get("per_request")
    fee = book["price"].get("per_request_by_search_context", {}).get(by["search_context"], fee) if fee else 0
    total += units.get("requests", 0) * F(fee) + units.get("web_searches", 0) * F(book["price"].get("web_search_per_1k", 0)) / 1000
    return min(ceil(total * 10**9 * F(factor["pool"]) * F(factor["tier"]) * F(factor["promotion"])), statement["held_nano_usd"])

if __name__ == "__main__":
    said = json.loads(json.load(open(sys.argv[1]))["statement"])
    cost, offers = 0, {offer["offer"]: offer for model in json.load(open(sys.argv[2]))["models"] for offer in model["offers"]}
    if said["state"] == "settled": cost = charge(said, offers[said["record"]["offer"]]["price"])  # everything else is free
    print(f"receipt {said['amount_nano_usd']}, price list {cost} nano-USD:", "they agree" if cost == said["amount_nano_usd"] else "THEY DIFFER")
    sys.exit(cost != said["amount_nano_usd"])
