"""Names of spans and attributes: OpenTelemetry semantic conventions 1.44.0 (messaging, CloudEvents) and our own."""

from typing import Final

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION_NAME: Final = "messaging.destination.name"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_CONVERSATION_ID: Final = "messaging.message.conversation_id"
MESSAGING_CONSUMER_GROUP: Final = "messaging.consumer.group.name"

CLOUDEVENTS_EVENT_ID: Final = "cloudevents.event_id"
CLOUDEVENTS_EVENT_SOURCE: Final = "cloudevents.event_source"
CLOUDEVENTS_EVENT_TYPE: Final = "cloudevents.event_type"
CLOUDEVENTS_EVENT_SUBJECT: Final = "cloudevents.event_subject"

MESH_AGENT: Final = "mesh.agent"
MESH_ATTEMPT: Final = "mesh.attempt"
MESH_CORRELATION_ID: Final = "mesh.correlation_id"

SYSTEM: Final = "nats"
