"""Requests of operators (apply specs, give commands, undo, delete), and alerts that affect rollouts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from xds_server import rollout
from xds_server.alarms import FiringAlerts
from xds_server.engine.acceptance import ApplyResult, SpecPrecondition, check_file, evaluate
from xds_server.engine.caller import OperatorRequest, audited_state
from xds_server.engine.claims import same_claim, takes_from
from xds_server.engine.errors import CommandRefusedError, ForbiddenError, StaleError
from xds_server.engine.observations import alarm_event, matching_alarm
from xds_server.spec import Loaded, load
from xds_server.store import run_in_store_thread

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from xds_server.alarms import Alert
    from xds_server.clock import Clock
    from xds_server.engine.audit import AuditRecorder
    from xds_server.engine.caller import Caller
    from xds_server.engine.committer import Committer
    from xds_server.engine.inbox import ReconcileInbox
    from xds_server.engine.ports import EngineObserver
    from xds_server.engine.queries import RouteQueries
    from xds_server.engine.routes import LiveRoute, RouteTable
    from xds_server.engine.snapshots import SnapshotCompiler
    from xds_server.spec import ModelRoute
    from xds_server.store import SqliteStore
    from xds_server.view import RouteView

__all__ = ["RouteService"]


class RouteService:
    """Checks the rights and preconditions of a request, and gives it to the committer.

    Refusals are audited, except those because of the content of a file. A caller that was refused too often
    gets a TooManyRefusalsError instead of the error that the method lists.
    """

    def __init__(  # noqa: PLR0913 - the composition root passes each part
        self,
        *,
        table: RouteTable,
        committer: Committer,
        queries: RouteQueries,
        snapshots: SnapshotCompiler,
        store: SqliteStore,
        audit: AuditRecorder,
        inbox: ReconcileInbox,
        observer: EngineObserver,
        clock: Clock,
    ) -> None:
        self._table = table
        self._committer = committer
        self._queries = queries
        self._snapshots = snapshots
        self._store = store
        self._audit = audit
        self._inbox = inbox
        self._observer = observer
        self._clock = clock
        self._loading = asyncio.Lock()
        self._firing = FiringAlerts()

    async def apply(
        self,
        text: str,
        *,
        file: str,
        by: Caller,
        dry_run: bool = False,
        only: SpecPrecondition | None = None,
    ) -> ApplyResult:
        """Accept the routes of a spec file, all of them or none.

        Raises:
            SpecRefusedError: The file has problems, alone or together with the live routes.
            ForbiddenError: The caller may not change a route with its old or its new labels, or another route
                whose requests the file would take.
            StaleError: The route does not have the entity tag of `only`.
            CommandRefusedError: The file holds other routes than that of `only`.
            UnsafeConfigError: The resulting snapshot would break a rule that protects users.
            StoreError: The store cannot write, or another process changed it; the file was not applied.
        """
        loaded = await self._load(text, file)
        async with self._committer.exclusive():
            with self._observer.span("apply", file=file, actor=by.actor):
                return await self._apply(loaded, by=by, dry_run=dry_run, only=only)

    async def command(self, name: str, action: rollout.Action, *, by: Caller) -> RouteView:
        """Give a command to a route, and return its view afterwards.

        Raises:
            UnknownRouteError: There is no such route.
            ForbiddenError: The caller may not change it.
            CommandRefusedError: The route's phase does not allow the command.
            StoreError: The store cannot write, or another process changed it; the command had no effect.
        """
        command = rollout.Command(command=action, actor=by.actor, reason=by.reason)
        async with self._committer.exclusive():
            live = self._table.get(name, visible=by.may)
            await self._permit(by, action.value, name, live.labels)
            try:
                with self._observer.span("command", route=name, command=action.value, actor=by.actor):
                    request = OperatorRequest(by=by, action=action.value)
                    await self._committer.apply_event(name, command, by.actor, request)
            except rollout.CommandNotAllowedError as error:
                await self._audit.refuse(by, action.value, name, str(error))
                raise CommandRefusedError(str(error)) from error
        self._inbox.wake()
        return self._queries.view(name)

    async def undo_to(self, name: str, generation: int, *, by: Caller) -> RouteView:
        """Accept an earlier spec of a route again.

        Raises:
            UnknownRouteError: There is no such route.
            ForbiddenError: The caller may not change the route with its present labels or its earlier ones.
            CommandRefusedError: The route never had that generation, or has it now.
            SpecRefusedError: The spec has problems, alone or beside the live routes.
            UnsafeConfigError, StoreError: As for `apply`.
        """
        async with self._committer.exclusive():
            live = self._table.get(name, visible=by.may)
            await self._permit(by, "undo", name, live.labels)
            specs = await run_in_store_thread(self._store.specs, name)
            wanted = next((spec for spec in specs if spec.generation == generation), None)
            if wanted is None:
                known = ", ".join(str(spec.generation) for spec in specs)
                reason = f"there is no generation {generation} of {name!r}; generations: {known}"
                await self._audit.refuse(by, "undo", name, reason)
                raise CommandRefusedError(reason)
            if generation == live.state.generation:
                reason = f"route {name!r} is at generation {generation} already"
                await self._audit.refuse(by, "undo", name, reason)
                raise CommandRefusedError(reason)
        loaded = await self._load(wanted.text, f"{name}, generation {generation}")
        reason = f"undo to generation {generation}" + (f": {by.reason}" if by.reason else "")
        async with self._committer.exclusive():
            # The route may have been deleted while the spec was parsed.
            self._table.get(name, visible=by.may)
            await self._apply(loaded, "undo", by=replace(by, reason=reason))
        return self._queries.view(name)

    async def alarm(self, alerts: Collection[Alert]) -> dict[str, str]:
        """Apply alerts to the routes whose specs match them; return the phase of each of these routes.

        An alert that was firing already, or that is resolved, changes nothing.
        """
        phases: dict[str, str] = {}
        async with self._committer.exclusive():
            for alert in [alert for alert in alerts if self._firing.is_new(alert)]:
                for live in self._table:
                    rule = matching_alarm(live.route.spec, alert)
                    if rule is not None:
                        event = alarm_event(alert, rollback=rule.on_firing == "Rollback")
                        await self._committer.apply_event(live.name, event, f"alarm:{alert.source}")
                        phases[live.name] = live.state.phase.value
        self._inbox.wake()
        return phases

    async def delete(self, name: str, *, by: Caller, tag: str | None = None) -> None:
        """Delete a route; its proxies answer 404 for it from then on.

        Raises:
            UnknownRouteError: There is no such route.
            ForbiddenError: The caller may not change it.
            StaleError: Its spec does not have this entity `tag`; `*` matches any.
            StoreError: The store cannot write; nothing changed.
        """
        async with self._committer.exclusive():
            live = self._table.get(name, visible=by.may)
            await self._permit(by, "delete", name, live.labels)
            await self._check_tag(by, "delete", name, live, tag)
            before = audited_state(live.state, live.document.text)
            now = self._clock.now()
            event = by.audit_event("delete", name, now, detail="the route was deleted", before=before)
            await self._committer.delete(live, event)

    async def _load(self, text: str, file: str) -> Loaded:
        """Parse a spec in a thread, one at a time: a large one would block the event loop for seconds."""
        async with self._loading:
            return await asyncio.to_thread(load, text, file=file)

    async def _permit(self, by: Caller, action: str, name: str, labels: Mapping[str, str]) -> None:
        """Check that the caller may change a route with these labels; audit a refusal."""
        if not by.may(labels):
            shown = ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "none"
            reason = f"{by.actor} may not {action} route {name!r} with these labels: {shown}"
            await self._audit.refuse(by, action, name, reason)
            raise ForbiddenError(reason)

    async def _check_claim(self, by: Caller, action: str, route: ModelRoute, live: LiveRoute | None) -> None:
        """Check that a new claim takes no requests of routes that the caller may not change."""
        if live is not None and same_claim(live.route, route):
            return
        name = route.metadata.name
        for other in self._table:
            if other.name != name and not by.may(other.labels) and takes_from(route, other.route):
                reason = (
                    f"{by.actor} may not {action} route {name!r}: its hosts and path would take requests "
                    f"from route {other.name!r}, which {by.actor} may not change; choose another host or path"
                )
                await self._audit.refuse(by, action, name, reason)
                raise ForbiddenError(reason)

    async def _apply(
        self,
        loaded: Loaded,
        action: str = "apply",
        *,
        by: Caller,
        dry_run: bool = False,
        only: SpecPrecondition | None = None,
    ) -> ApplyResult:
        """Check the whole file, then commit all of its routes together."""
        for document in loaded.documents:
            name = document.route.metadata.name
            live = self._table.find(name)
            if live is not None:
                await self._permit(by, action, name, live.labels)
            await self._permit(by, action, name, document.route.metadata.labels)
            await self._check_claim(by, action, document.route, live)
        check_file(loaded, self._table)
        if only is not None:
            await self._check_precondition(loaded, only, by)
        now, checked = self._clock.now(), self._committer.checks_health
        candidates = [
            evaluate(
                document,
                self._table.find(document.route.metadata.name),
                action,
                by=by,
                checked=checked,
                now=now,
            )
            for document in loaded.documents
        ]
        changed = {c.becoming.name: c.becoming for c in candidates if c.change is not None}
        before = (live for name in changed if (live := self._table.find(name)) is not None)
        groups = {live.group for live in (*changed.values(), *before)}
        for group in groups:
            # Every resulting snapshot is built once before anything is stored.
            self._snapshots.check(group, self._table.with_changes(changed))
        if changed and not dry_run:
            await self._committer.apply_specs(candidates, groups)
        return ApplyResult(
            routes=tuple(candidate.applied for candidate in candidates), warnings=tuple(loaded.problems)
        )

    async def _check_precondition(self, loaded: Loaded, only: SpecPrecondition, by: Caller) -> None:
        names = [document.route.metadata.name for document in loaded.documents]
        if names != [only.name]:
            raise CommandRefusedError(
                f"the text must contain only the spec of route {only.name!r}; "
                f"it contains the specs of: {', '.join(names) or 'no route'}"
            )
        await self._check_tag(by, "apply", only.name, self._table.find(only.name), only.tag)

    async def _check_tag(
        self, by: Caller, action: str, name: str, live: LiveRoute | None, tag: str | None
    ) -> None:
        """Check that a route has this entity tag; audit a refusal.

        A `tag` of `*` matches any existing route; if it is None, nothing is checked.
        """
        if tag is not None and (live is None or tag not in {"*", live.tag}):
            if live is None:
                reason = f"route {name!r} does not exist; to create it, send the request without If-Match"
            else:
                reason = (
                    f"the spec of route {name!r} does not have the entity tag in If-Match: it was changed in "
                    "the meantime; read the spec again and repeat the request with its new entity tag"
                )
            await self._audit.refuse(by, action, name, reason)
            raise StaleError(reason, exists=live is not None)
