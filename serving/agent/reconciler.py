"""The reconciler: makes servers and traffic what the plans say, one small pass after another.

A pass may be cut off anywhere (`kill -9`): everything it needs lies in files, in supervisord and in
Envoy, and the next pass continues from there. No request passes through the agent.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from contract.errors import DataError, NotFoundError, ServiceUnavailableError, SlipwayError
from contract.layout import PACKAGE_MANIFEST
from contract.programs import IMPORTED_MODEL_SERVER, MODEL_SERVER
from contract.records.package import PackageManifest
from contract.records.traffic import Observation, TrafficPlan
from serving.agent.backends.backend_kind import OpenBackend
from serving.agent.damage import PackageDamage
from serving.agent.disagreement import DisagreementCounter
from serving.agent.draining import Draining
from serving.agent.health import HealthProber, ask_server
from serving.agent.hosts.host import ServerHost, ServerSpec, ServerState
from serving.agent.observing import Observer
from serving.agent.plans import PlanStore
from serving.agent.reachability import Reachability
from serving.agent.stand_ins import StandIns
from serving.agent.watchdog import Watchdog
from serving.traffic.backend import Endpoint, PipelineTraffic, Version

log = logging.getLogger("slipway.agent")

Problems = dict[str, list[str]]  # by pipeline; those of the whole machine under ""
_MACHINE = ""


class Reconciler:
    """Follows the plans of one artifact root with one host and one traffic backend."""

    def __init__(
        self,
        plans: PlanStore,
        host: ServerHost,
        opened: OpenBackend,
        draining: Draining,
        state_folder: Path,
    ) -> None:
        self._plans = plans
        self._host = host
        self._backend = opened.backend
        self._reach = Reachability(opened.hosts)
        self._draining = draining
        self._applied_folder = state_folder / "applied"
        self._health = HealthProber(ask_server)
        self.pairs = DisagreementCounter(
            state_folder / "pairs",
            lambda key: plans.layout(key[0]).predictions(key[1]),
            self._own_errors,
        )
        self._stand_ins = StandIns(state_folder / "stand-ins", self._health)
        self._watchdog = Watchdog(self._health)
        self._damage = PackageDamage(plans.layout)
        self._observer = Observer(opened.backend, self.pairs, self._health.is_ready)
        self._wanted: dict[str, TrafficPlan] = {}
        self._applied = self._read_applied()
        self._servers: Mapping[Version, ServerState] | None = None  # unknown before the first pass
        self._traffic: list[PipelineTraffic] | None = None
        self._problems: dict[str, tuple[str, ...]] = {}

    @property
    def servers(self) -> Mapping[Version, ServerState]:
        """Every server that was there in the last pass."""
        return self._servers or {}

    def probe(self) -> bool:
        """Ask every server whether it is ready; True if an answer has changed."""
        return self._health.probe({key: state.endpoint for key, state in self.servers.items()})

    def observe(self, pipeline: str) -> Observation:
        """Return what is seen of a pipeline now; see `Observer.observe`."""
        problems = self._problems.get(pipeline, ()) + self._problems.get(_MACHINE, ())
        return self._observer.observe(self._in_force(pipeline), self._servers_now(), problems)

    def _servers_now(self) -> Mapping[Version, ServerState]:
        """Return the servers as they are now: who counts errors wants to know of a death first.

        Raises:
            ServiceUnavailableError: If nobody has said so far what runs: none would be a death.
        """
        try:
            return {**self.servers, **self._host.states()}
        except ServiceUnavailableError:
            if self._servers is None:
                raise
            return self._servers

    def _own_errors(self, version: Version) -> Mapping[str, float]:
        folder = self._plans.layout(version[0]).version(version[1])
        try:
            return PackageManifest.read(folder / PACKAGE_MANIFEST).own_errors
        except (DataError, NotFoundError):
            return {}

    def reconcile(self) -> None:
        """Make one pass. What fails is told in `observe` and tried again by the next pass."""
        problems: Problems = {_MACHINE: []}
        self._wanted = self._read_plans(problems)
        for work in (self._keep_servers, self._move_traffic, self._end_servers):
            _guard(work, problems)
        told = {name: tuple(texts) for name, texts in problems.items()}
        for name, texts in told.items():
            for text in set(texts) - set(self._problems.get(name, ())):
                log.warning("%s: %s", name or "agent", text)
        self._problems = told

    # --- plans ----------------------------------------------------------------------------------

    def _read_plans(self, problems: Problems) -> dict[str, TrafficPlan]:
        plans = {}
        for pipeline in self._plans.pipelines():
            problems[pipeline] = []
            try:
                plans[pipeline] = self._plans.current(pipeline)
                for path in self._plans.layout(pipeline).damaged_traffic_plans():
                    problems[pipeline].append(
                        f"the stored plan was damaged, and the copy of the last one was put in its "
                        f"place; see {path}, and remove that file"
                    )
            except SlipwayError as error:  # continue with what is in force
                problems[pipeline].append(str(error))
                plans[pipeline] = self._in_force(pipeline)
        return plans

    def _in_force(self, pipeline: str) -> TrafficPlan:
        return self._applied.get(pipeline, TrafficPlan(pipeline=pipeline))

    def _needed(self) -> set[Version]:
        """Return the versions that must run: those wanted and those whose traffic still flows."""
        plans = [*self._wanted.values(), *(self._in_force(name) for name in self._wanted)]
        return {(plan.pipeline, version) for plan in plans for version in plan.versions}

    # --- servers --------------------------------------------------------------------------------

    def _keep_servers(self, problems: Problems) -> None:
        self._servers = self._host.states()
        has_started = False
        for pipeline, version in sorted(self._needed()):
            state = self._servers.get((pipeline, version))
            problem = state.problem if state is not None else ""
            damage = self._damage.words((pipeline, version), problem)
            if problem:
                problems[pipeline].append(f"version {version}: {damage}{problem}")
            if state is not None and state.is_kept:
                self._end_if_hung((pipeline, version), problems)
                continue
            try:
                self._host.start(self._spec(pipeline, version))
                has_started = True
            except (NotFoundError, DataError) as error:
                problems[pipeline].append(f"version {version} cannot be served: {error}")
        if has_started:
            self._servers = self._host.states()

    def _end_if_hung(self, version: Version, problems: Problems) -> None:
        """Kill a server that takes connections and answers nothing; its keeper starts another."""
        if silent := self._watchdog.hung_seconds(version):
            words = f"version {version[1]} took connections for {silent:.0f} s and did not answer"
            problems[version[0]].append(f"{words}: its server is replaced")
            self._host.end(version)

    def _spec(self, pipeline: str, version: int) -> ServerSpec:
        layout = self._plans.layout(pipeline)
        package = layout.version(version)
        manifest = PackageManifest.read(package / PACKAGE_MANIFEST)
        if not (package / manifest.model).is_dir():
            raise DataError(f"{package / manifest.model}: expected a model there, found none")
        return ServerSpec(
            pipeline=pipeline,
            version=version,
            package=package,
            predictions=layout.predictions(version),
            drain_seconds=manifest.serve.drain_seconds,
            is_grpc=manifest.serve.grpc,
            program=IMPORTED_MODEL_SERVER if manifest.is_imported else MODEL_SERVER,
        )

    def _end_servers(self, problems: Problems) -> None:
        del problems
        idle = set(self.servers) - self._needed()
        self._draining.update(idle, self._backend.active_requests)
        routed = {
            (one.plan.pipeline, version) for one in self._traffic or () for version in one.endpoints
        }
        for version in idle - routed:
            # the routes to it are gone since an earlier pass
            if self._draining.is_over(version) and self._host.stop(version):
                self._servers = {k: state for k, state in self.servers.items() if k != version}
                self.pairs.forget(version)
                log.info("%s: the server of version %d has ended", *version)

    # --- traffic --------------------------------------------------------------------------------

    def _move_traffic(self, problems: Problems) -> None:
        if self._servers is None:
            return  # nobody could say what runs: leave the data plane as it is
        targets = [self._target(plan, problems[name]) for name, plan in self._wanted.items()]
        for plan in targets:
            shadow = plan.shadow.version if plan.shadow else None
            self.pairs.follow(plan.pipeline, plan.champion, shadow)
        traffic = [PipelineTraffic(plan, self._with_stand_in(plan, problems)) for plan in targets]
        if traffic != self._traffic:
            started = time.monotonic()
            self._traffic = None  # unknown until the backend says that it is done
            self._backend.apply(traffic)
            self._traffic = traffic
            log.info("data plane follows after %.0f ms", 1000 * (time.monotonic() - started))
        for plan in targets:
            self._remember(plan)
        for pipeline in self._applied.keys() - self._wanted.keys():
            self._path(pipeline).unlink(missing_ok=True)
            del self._applied[pipeline]

    def _with_stand_in(self, plan: TrafficPlan, problems: Problems) -> dict[int, Endpoint]:
        """Return where versions answer; an earlier champion's server for one that does not."""
        endpoints = self._endpoints(plan.pipeline)
        told = problems.setdefault(plan.pipeline, [])
        found = self._stand_ins.find(plan, " ".join(told))
        if found is not None and found.version in endpoints:
            told.append(found.in_words)
            endpoints[found.champion] = endpoints[found.version]
        return endpoints

    def _target(self, plan: TrafficPlan, told: list[str]) -> TrafficPlan:
        """Return the plan itself if all that it gives traffic to can take it, else what was.

        Without its canary where a part of the data plane has lost that one's last host.
        """
        old = self._in_force(plan.pipeline)
        carrying = {arm.version for arm in old.arms if arm.weight_percent > 0}
        # one that already carries traffic is not asked again: a roll-back to it must not wait
        new = {arm.version for arm in plan.arms if arm.weight_percent > 0} - carrying
        if plan.shadow is not None and plan.shadow != old.shadow:
            new.add(plan.shadow.version)
        has_servers = all((plan.pipeline, arm.version) in self.servers for arm in plan.arms)
        keys = {(plan.pipeline, version) for version in new}
        is_ready = has_servers and all(map(self._health.is_ready, keys))
        target = plan if is_ready and self._reach.are_reached(keys, told) else old
        return self._reach.reached_part(target, told)

    def _endpoints(self, pipeline: str) -> dict[int, Endpoint]:
        needed = self._needed()
        return {
            key[1]: state.endpoint
            for key, state in self.servers.items()
            if key[0] == pipeline and (key in needed or not self._draining.is_over(key))
        }

    def _remember(self, plan: TrafficPlan) -> None:
        if self._in_force(plan.pipeline) == plan:
            return
        plan.write(self._path(plan.pipeline))
        self._applied[plan.pipeline] = plan
        log.info("%s: traffic follows plan %d: %s", plan.pipeline, plan.generation, _words(plan))

    def _path(self, pipeline: str) -> Path:
        return self._applied_folder / f"{pipeline}.json"

    def _read_applied(self) -> dict[str, TrafficPlan]:
        return {path.stem: TrafficPlan.read(path) for path in self._applied_folder.glob("*.json")}


def _guard(work: Callable[[Problems], None], problems: Problems) -> None:
    """Do a part of the pass; the other parts are done even if it cannot be."""
    try:
        work(problems)
    except SlipwayError as error:
        problems[_MACHINE].append(str(error))


def _words(plan: TrafficPlan) -> str:
    arms = [f"{arm.name} {arm.version} {arm.weight_percent} %" for arm in plan.arms]
    shadow = [f"shadow {plan.shadow.version} {plan.shadow.percent} %"] if plan.shadow else []
    return ", ".join(arms + shadow) or "nothing is in service"
