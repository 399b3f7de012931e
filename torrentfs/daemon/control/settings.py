"""`/api/v1/status` and `/api/v1/settings`: the mount as a whole."""

from fastapi import APIRouter

from torrentfs.daemon.control import describe
from torrentfs.daemon.control.contract import Subject
from torrentfs.daemon.control.errors import responses
from torrentfs.daemon.control.models import ChangeLimits, Limits, Status


def make_router(subject: Subject) -> APIRouter:
    """The routes, for one mount."""
    router = APIRouter(tags=["mount"])

    @router.get("/status", responses=responses())
    async def show_status() -> Status:
        """Everything about the mount as a whole."""
        return describe.status(subject, describe.torrents(subject))

    @router.get("/settings", responses=responses())
    async def show_settings() -> Limits:
        """What may be changed while it runs."""
        return describe.limits(subject.session)

    @router.patch("/settings", responses=responses(400))
    async def change_settings(change: ChangeLimits) -> Limits:
        """Change some of it, until the mount ends."""
        wanted = {
            name.removesuffix("_limit"): getattr(change, name) or None
            for name in change.model_fields_set
            if not (name == "max_active" and change.max_active is None)
        }
        if wanted:
            subject.session.set_limits(**wanted)
        return describe.limits(subject.session)

    return router
