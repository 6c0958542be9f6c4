"""What a session's wrapper is told: its config, resolved against what the deployment allows."""

from dataclasses import dataclass
from pathlib import Path

from cc_gateway.drivers.base import Folders
from cc_gateway.errors import InvalidRequest
from cc_gateway.models import Session, SessionConfig
from cc_protocol.launch import Launch, PermissionMode, Skill

MAX_SKILL_BYTES = 256_000
ENTRY_OVERHEAD = 1024 * 1024


@dataclass(frozen=True)
class LaunchPolicy:
    """What this deployment runs and allows."""

    driver: str
    claude_binary: Path
    claude_version: str
    images: frozenset[str] | None
    """The images that a session may name; None where it can name none."""
    may_bypass: bool
    """Whether an agent may run unlisted commands: it is isolated, or its model is ours, or the operator said so."""
    default_model: str | None
    skills_dir: Path | None
    setup_seconds: float
    """Longest setup script."""
    max_event_bytes: int
    """Longest entry that the relay takes: a line of the CLI must fit into one."""

    def permission_mode(self, config: SessionConfig) -> PermissionMode:
        return config.permission_mode or ("bypassPermissions" if self.may_bypass else "acceptEdits")

    def check(self, config: SessionConfig) -> None:
        """Raises `InvalidRequest` where the config asks for what cannot be had here."""
        self.check_mode(config.permission_mode)
        for name in config.skills:
            if isinstance(name, str):
                self._skill(name)
        if config.image is not None:
            self._check_image(config.image)

    def _check_image(self, image: str) -> None:
        if self.images is None:
            raise InvalidRequest(
                f"`image` is refused: the {self.driver} driver runs sessions without images", code="image_not_supported"
            )
        if image not in self.images:
            offer = ", ".join(sorted(self.images)) or "none; the operator lists them in CC_SESSION_IMAGES"
            raise InvalidRequest(
                f"the image {image} is not allowed here. Allowed: {offer}",
                code="image_not_allowed",
                details={"image": image},
            )

    def check_mode(self, mode: PermissionMode | None) -> None:
        if mode == "bypassPermissions" and not self.may_bypass:
            raise InvalidRequest(
                "`bypassPermissions` is refused: nothing isolates this session from the machine, and the model is a real"
                " one. Install bubblewrap, or start the gateway with --unsafe if you accept that",
                code="permission_mode_not_allowed",
            )

    def launch(self, session: Session, incarnation: int, folders: Folders) -> Launch:
        config = session.config
        return Launch(
            session_id=session.id,
            incarnation=incarnation,
            workspace=str(folders.workspace),
            claude_dir=str(folders.claude),
            claude_binary=str(self.claude_binary),
            claude_version=self.claude_version,
            driver=self.driver,
            model=config.model or self.default_model,
            system_prompt=config.system_prompt,
            append_system_prompt=config.append_system_prompt,
            allowed_tools=config.allowed_tools,
            disallowed_tools=config.disallowed_tools,
            permission_mode=self.permission_mode(config),
            allow_bypass=self.may_bypass,
            max_turns=config.max_turns,
            max_line_bytes=self.max_event_bytes - ENTRY_OVERHEAD,
            mcp_servers=config.mcp_servers,
            env=config.env,
            setup=config.setup,
            setup_seconds=self.setup_seconds,
            skills=[self._skill(skill) if isinstance(skill, str) else skill for skill in config.skills],
        )

    def _skill(self, name: str) -> Skill:
        path = self.skills_dir / name / "SKILL.md" if self.skills_dir else None
        if path is None or not path.is_file():
            known = sorted(p.parent.name for p in self.skills_dir.glob("*/SKILL.md")) if self.skills_dir else []
            offer = f"there are: {', '.join(known)}" if known else "this deployment has none (CC_SKILLS_DIR)"
            raise InvalidRequest(f"no skill named {name}: {offer}", code="unknown_skill", details={"skill": name})
        return Skill(name=name, content=path.read_text()[:MAX_SKILL_BYTES])
