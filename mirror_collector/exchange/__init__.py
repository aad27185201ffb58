"""Captured exchanges as values: legs, their parsing, their pairing, and the answers they contain.

Pure: no I/O, no clock, no randomness. All input is untrusted. Input that cannot be parsed becomes a
`Rejection` with a reason and never raises.
"""

from __future__ import annotations

from mirror_collector.exchange.api import Api, api_of, api_of_answer
from mirror_collector.exchange.document import parse_document
from mirror_collector.exchange.exposure import Conversion, Exposure, ExposureCounts, Feedback
from mirror_collector.exchange.log_entry import CAPTURE_NAMESPACE, LogMessage, parse_entry, parse_message
from mirror_collector.exchange.model import (
    Body,
    Failure,
    Leg,
    Pair,
    Rejection,
    RejectionReason,
    RequestId,
    Role,
    RouteName,
    Unpaired,
    UnpairedReason,
    Variant,
)
from mirror_collector.exchange.pairing import Pairing, PairingLimits, PairingResult
from mirror_collector.exchange.problems import join_problems
from mirror_collector.exchange.reading import read_reply
from mirror_collector.exchange.reply import Reply, ReplyKind, ToolCall
from mirror_collector.exchange.unread import UnreadReason

__all__ = [
    "CAPTURE_NAMESPACE",
    "Api",
    "Body",
    "Conversion",
    "Exposure",
    "ExposureCounts",
    "Failure",
    "Feedback",
    "Leg",
    "LogMessage",
    "Pair",
    "Pairing",
    "PairingLimits",
    "PairingResult",
    "Rejection",
    "RejectionReason",
    "Reply",
    "ReplyKind",
    "RequestId",
    "Role",
    "RouteName",
    "ToolCall",
    "Unpaired",
    "UnpairedReason",
    "UnreadReason",
    "Variant",
    "api_of",
    "api_of_answer",
    "join_problems",
    "parse_document",
    "parse_entry",
    "parse_message",
    "read_reply",
]
