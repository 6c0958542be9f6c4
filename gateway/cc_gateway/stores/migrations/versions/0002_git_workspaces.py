"""Git workspaces: the repository and branch that a session's files come from."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("workspace_git_repo", sa.Text()))
    op.add_column("sessions", sa.Column("workspace_git_branch", sa.Text()))
