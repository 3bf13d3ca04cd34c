"""The verdict first: one headline, and a card with the figures that matter for each profile."""

from __future__ import annotations

from edge_convert.page import figures
from edge_convert.page.markup import Fields, Markup, badge, element, fragment, join, prose, quiet, sentence


def anchor(profile: Fields) -> str:
    """Id of a profile's section."""
    return fragment("profile", profile["profile"])


def chosen(profile: Fields) -> Fields | None:
    """The candidate that was taken."""
    return next((t for t in profile.get("candidates") or [] if t["state"] == "chosen"), None)


def header(document: Fields) -> Markup:
    """Name, verdict, and the refusal where there is one."""
    title = element("h1", element("b", document["name"]), f" {document['version']}: conversion report")
    words, kind = _headline(document)
    refusal = element("p", prose(document["refusal"]), class_="refusal") if document.get("refusal") else ""
    return element("header", title, element("p", words, class_=f"headline {kind}"), refusal, _asked(document))


def _headline(document: Fields) -> tuple[str, str]:
    profiles = document.get("profiles") or []
    passed = sum(bool(p["passed"]) for p in profiles)
    if document.get("refusal"):
        return "Refused", "bad"
    if not profiles:
        return "Nothing was converted", "bad"
    if passed == len(profiles):
        every = "" if len(profiles) == 1 else f" for all {len(profiles)} profiles"
        return f"Converted{every}", "good"
    if passed:
        return f"Converted for {passed} of {len(profiles)} profiles", "bad"
    return "No artifact passed the gates", "bad"


def _asked(document: Fields) -> Markup:
    source = document["source"]
    facts = [source["name"], figures.size(source["bytes"]), f"{source['operators']} operators"]
    if source.get("parameters"):
        facts.append(f"{source['parameters']:,} parameters")
    if document.get("task"):
        facts.append(str(document["task"]))
    return quiet(join(" · ".join(facts[i : i + 1]) if not i else f" · {facts[i]}" for i in range(len(facts))))


def cards(document: Fields) -> Markup:
    """One card for each profile."""
    profiles = document.get("profiles") or []
    return element("div", *(_card(document, p) for p in profiles), class_="cards") if profiles else Markup()


def _card(document: Fields, profile: Fields) -> Markup:
    trial = chosen(profile)
    link = element("a", profile["profile"], href=f"#{anchor(profile)}")
    tiles = element("div", *_tiles(document, trial), class_="tiles") if trial else Markup()
    bundle = profile.get("bundle")
    return element(
        "article",
        element("h2", link, badge("passed" if profile["passed"] else "failed")),
        quiet(profile["title"]),
        tiles,
        sentence(_capital(profile["summary"])) if not profile["passed"] else Markup(),
        quiet(join(["Bundle ", element("code", bundle)])) if bundle else Markup(),
        class_="card" if profile["passed"] else "card bad",
    )


def _tiles(document: Fields, trial: Fields) -> list[Markup]:
    """The figures of the chosen candidate against the source's."""
    before, score = document["source"]["bytes"], trial.get("score") or {}
    smaller = f"{figures.size(before)} → {figures.size(trial['bytes'])}"
    tiles = [_tile(figures.times(trial["bytes"] / before, "smaller", "larger"), smaller)] if before else []
    if trial.get("latency_ratio"):
        speed = _speed(trial)
        before_ms, after_ms = (
            figures.milliseconds(trial.get(k)) for k in ("source_latency_ms", "latency_ms")
        )
        tiles.append(_tile(speed, f"{before_ms} → {after_ms} on this host"))
    if score.get("artifact") is not None:
        tiles.append(
            _tile(
                figures.share(score["artifact"]),
                f"{score['metric']}, source {figures.share(score['source'])}",
            )
        )
    if score.get("agreement") is not None:
        tiles.append(_tile(figures.share(score["agreement"]), f"same answer on {score['samples']} samples"))
    else:
        tiles.append(_tile(figures.decibels(score.get("sqnr_db")), "signal to noise"))
    tiles.append(_tile(str(trial["precision"]), str(trial.get("name") or trial["recipe"])))
    return tiles


def _speed(trial: Fields) -> str:
    """By how much it is faster; nothing is claimed where ratio and times of a noisy host disagree."""
    ratio, before, after = trial["latency_ratio"], trial.get("source_latency_ms"), trial.get("latency_ms")
    if before and after and (ratio < 1) != (after < before):
        return "as fast"
    return figures.times(ratio, "faster", "slower")


def _tile(figure: str, what: str) -> Markup:
    return element("div", element("b", figure), element("span", what), class_="tile")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
