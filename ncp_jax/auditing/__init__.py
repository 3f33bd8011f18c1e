"""Audits proposals: what independent models predict for them, and how far they are from what is measured."""

from ncp_jax.auditing.config import AuditConfig, check_rows
from ncp_jax.auditing.proposals import audit
from ncp_jax.auditing.result import Audit, Calibration, MetricAudit

__all__ = ["Audit", "AuditConfig", "Calibration", "MetricAudit", "audit", "check_rows"]
