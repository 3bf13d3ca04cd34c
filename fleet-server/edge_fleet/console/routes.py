"""The console put together: its pages, each a module of its own, and the navigation between them."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from edge_fleet.console import (
    alerts,
    approvals,
    audit,
    device,
    entrance,
    fleet,
    models,
    navigation,
    new_rollout,
    oidc,
    overview,
    rendering,
    rollout_orders,
    rollouts,
    settings,
    settings_keys,
    settings_system,
    settings_tokens,
    settings_users,
    settings_webhooks,
    withdraw,
)

# a page is added here, and in `navigation.py` where it has a place in the navigation
PAGES: tuple[APIRouter, ...] = (
    entrance.router,
    oidc.router,
    overview.router,
    fleet.router,
    device.router,
    withdraw.router,  # before the steps of a release: it is none of them
    models.router,
    new_rollout.router,  # before the pages of one rollout: "new" is none
    rollouts.router,
    rollout_orders.router,
    approvals.router,
    alerts.router,
    audit.router,
    settings.router,
    settings_users.router,
    settings_tokens.router,
    settings_webhooks.router,
    settings_keys.router,
    settings_system.router,
)


def install(app: FastAPI) -> None:
    """Add the console to an application."""
    for router in PAGES:
        app.include_router(router)


_PATHS = {route.path for router in PAGES for route in router.routes if isinstance(route, APIRoute)}
rendering.use(navigation=navigation.shown(_PATHS))
