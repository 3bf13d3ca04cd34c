"""What the server tells again of an envelope is one `VerifiedRecord` a record, in the published form."""

import json

from message_examples import EPOCH, WINDOW, WINDOW_OF_ARM

from edge_contracts.messages import Event, Gap, Record
from edge_contracts.verified import VerifiedRecord, told

RECORDS: tuple[Record, ...] = (
    WINDOW,
    WINDOW_OF_ARM,
    Event(name="started", time_ms=1, detail='a "quoted" word\n\u2028 and \u00e9'),
    Gap(first_seq=1, last_seq=2, records=3, reason="full", kinds={"window": 3}),
)


def test_messages_are_the_models_own_json() -> None:
    messages = told("cam-1", EPOCH, 7, 1_700_000_000_000, RECORDS)
    assert len(messages) == len(RECORDS)
    for index, (message, record) in enumerate(zip(messages, RECORDS, strict=True)):
        said = VerifiedRecord(
            device="cam-1",
            epoch=EPOCH,
            seq=7,
            index=index,
            received_ms=1_700_000_000_000,
            record=record,
        )
        assert VerifiedRecord.model_validate_json(message) == said
        assert json.loads(message) == said.model_dump(mode="json")
        assert message == said.model_dump_json().encode()
