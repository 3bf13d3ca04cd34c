"""What a plan asks for, in words. Pure."""

from __future__ import annotations

from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.plan import Join, OnFailure, RolloutPlan

_ON_FAILURE = {
    OnFailure.ROLLBACK_STAGE: "the devices of that stage go back",
    OnFailure.ROLLBACK_ROLLOUT: "every device reached goes back",
    OnFailure.HOLD: "it stands still until an operator says",
}
_JOIN = {
    Join.NEVER: "take no part",
    Join.LAST_STAGE: "take part until the last stage has settled",
    Join.UNTIL_DEADLINE: "take part until the deadline",
}


def described(plan: RolloutPlan) -> list[str]:
    """A plan as lines for a person."""
    lines = [f"{plan.release} to {plan.select}, {plan.kind}"]
    if plan.start_at is not None:
        lines.append(f"begins       {plan.start_at.isoformat()}")
    if plan.experiment is not None:
        lines.append(
            f"arm B        {plan.experiment.share:.1%} of the devices, experiment {plan.experiment.name}"
        )
    if plan.shadow is not None:
        shadow = plan.shadow
        lines.append(
            f"shadow       {shadow.share:.1%} of the inputs at {shadow.cpu:.0%} of a core, "
            f"{shadow.memory_mb} MB, {shadow.latency_ms:g} ms; devices that cannot: {shadow.unable}"
        )
        lines.append(
            f"             watched for {plan.bake_of(0, Part.SHADOW):g} s before each stage is switched"
        )
    if plan.blue_green is not None:
        lines.append(
            f"brought      first, then {plan.quorum:.0%} or more of a stage switch at once; "
            f"devices that cannot: {plan.blue_green.unable}"
        )
    for number, stage in enumerate(plan.stages):
        lines.append(f"stage {number + 1:<6} {stage}, watched for {plan.bake_of(number):g} s")
    if plan.rate is not None:
        growth = f", times {plan.rate.factor:g} after every {plan.rate.after} that confirm"
        highest = f", up to {plan.rate.max_per_minute}" if plan.rate.max_per_minute else ""
        grows = f"{growth}{highest}" if plan.rate.factor > 1 else ""
        lines.append(f"rate         {plan.rate.per_minute} devices a minute{grows}")
    if plan.max_in_flight is not None:
        lines.append(f"in flight    {plan.max_in_flight} devices at most")
    for window in plan.windows:
        lines.append(f"window       {window}, by the device's clock (label tz, else {plan.time_zone})")
    if plan.deadline is not None:
        lines.append(f"deadline     {plan.deadline.isoformat()}: {plan.on_deadline}")
    retries = {name: n for name, n in plan.retries.model_dump(exclude={"backoff_s"}).items() if n}
    told = ", ".join(f"{name} {n}" for name, n in retries.items()) or "none"
    lines.append(f"retries      {told}")
    lines.append(
        f"gates        {', '.join(f'{n} {g.limit:g}' for n, g in sorted(plan.gates.items())) or 'none'}"
    )
    if plan.control is not None:
        lines.append(f"control      {plan.control} of the devices, until the last stage")
    lines.append(f"false halts  {plan.false_halt:g} at most, over the whole rollout")
    lines.append(f"on failure   {_ON_FAILURE[plan.on_failure]}")
    lines.append(f"newcomers    {_JOIN[plan.join]}")
    return lines
