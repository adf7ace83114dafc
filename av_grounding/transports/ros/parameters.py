"""The runtime configuration as ROS parameters: typed, ranged, described, and checked as a whole.

What `av_grounding.config` refuses, the node refuses, in the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from av_grounding.config import (
    HEADS,
    GroundingConfig,
    Parameter,
    config_from_mapping,
    extra_heads,
    parameters,
)
from av_grounding.transports.messages import AudioLayout

_FOREIGN = ("use_sim_time", "qos_overrides", "start_type_description_service")


class NodeParameters:
    """Declares every parameter on a node and keeps the configuration that they describe.

    The node must have been made with `automatically_declare_parameters_from_overrides`.
    Those of a head that the shipped file does not have are declared where one of them is given.
    Raises ValueError in one line where a given value is refused.
    """

    def __init__(
        self,
        node: Node,
        on_change: Callable[[GroundingConfig], None],
        is_configured: Callable[[], bool],
    ) -> None:
        """`on_change` hears of every new configuration, in the thread that set it."""
        self._node = node
        self._on_change = on_change
        self._is_configured = is_configured
        # The node was made to declare what it was given, which is the one public way to see it.
        given = {
            name: parameter.value
            for name, parameter in node.get_parameters_by_prefix("").items()
            if name.split(".")[0] not in _FOREIGN
        }
        for name in given:
            node.undeclare_parameter(name)
        heads = [*HEADS, *extra_heads(given)]
        self._known = {parameter.name: parameter for parameter in parameters(heads)}
        self.unknown = unknown_parameters(name for name in given if name not in self._known)
        """One line for every given parameter that this node does not have."""
        # Checked together, before the first is declared.
        self.config = _checked({n: value for n, value in given.items() if n in self._known})
        for parameter in self._known.values():
            node.declare_parameter(parameter.name, parameter.default, describe(parameter))
        node.add_on_set_parameters_callback(self._judge)
        if hasattr(node, "add_post_set_parameters_callback"):
            node.add_post_set_parameters_callback(self._adopt)
            self._adopts_at_once = False
        else:  # Humble has no such callback
            self._adopts_at_once = True

    def _judge(self, changes: list[RosParameter]) -> SetParametersResult:
        ours = {change.name: change.value for change in changes if change.name in self._known}
        try:
            if self._is_configured():
                self._refuse_late(name for name in ours if ours[name] != self._value(name))
            config = _checked(self._values() | ours)
        except ValueError as error:
            # `ros2 param load` sets one after the other: what was right before is in force.
            scope = "none of this set was taken" if len(changes) > 1 else "only this was refused"
            return SetParametersResult(successful=False, reason=f"{error} ({scope})")
        if ours and self._adopts_at_once:
            self._take(config)
        return SetParametersResult(successful=True)

    def _adopt(self, changes: list[RosParameter]) -> None:
        if any(change.name in self._known for change in changes):
            self._take(_checked(self._values()))

    def _take(self, config: GroundingConfig) -> None:
        if config != self.config:
            self.config = config
            self._on_change(config)

    def _refuse_late(self, names: Iterable[str]) -> None:
        late = sorted(name for name in names if not self._known[name].is_live)
        if late:
            raise ValueError(
                f"{', '.join(late)}: counts when the node is configured, which it is: first "
                "deactivate and clean up (ros2 lifecycle set)"
            )

    def _values(self) -> dict[str, Any]:
        return {name: self._value(name) for name in self._known}

    def _value(self, name: str) -> Any:
        return self._node.get_parameter(name).value


def describe(parameter: Parameter) -> ParameterDescriptor:
    """The parameter as `ros2 param describe` shows it."""
    default, (low, high) = parameter.default, parameter.range or (None, None)
    descriptor = ParameterDescriptor(description=parameter.description)
    descriptor.additional_constraints = "; ".join(
        [
            *([f"one of {', '.join(map(str, parameter.choices))}"] if parameter.choices else []),
            "live" if parameter.is_live else "counts at the next configure",
        ]
    )
    if isinstance(default, float):
        # A whole number given for a real one (`max_rate 5`) is meant, not mistaken.
        descriptor.dynamic_typing = True
        if low is not None:
            value_range = FloatingPointRange(from_value=float(low), to_value=float(high))
            descriptor.floating_point_range = [value_range]
    elif isinstance(default, int) and not isinstance(default, bool) and low is not None:
        value_range = IntegerRange(from_value=int(low), to_value=int(high), step=1)
        descriptor.integer_range = [value_range]
    return descriptor


def unknown_parameters(names: Iterable[str]) -> list[str]:
    """What is wrong with each name that is not every node's either."""
    complaints = []
    for name in names:
        if name.split(".")[0] in _FOREIGN:
            continue
        try:
            config_from_mapping({name: 0})
        except ValueError as error:
            complaints.append(str(error))
    return complaints


def _checked(values: Mapping[str, Any]) -> GroundingConfig:
    config = config_from_mapping(values)
    AudioLayout.of(config.audio)
    return config
