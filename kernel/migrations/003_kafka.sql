-- By which road a publisher's events reach this service: 'stream' or 'kafka'. Only that one may have effects.
ALTER TABLE bus_position ADD COLUMN road TEXT NOT NULL DEFAULT 'stream';
-- How far this service has come in each partition; moved in the unit that holds the effects. Kafka's own offsets are for its tools.
CREATE TABLE kafka_offset (
    topic TEXT NOT NULL,
    part BIGINT NOT NULL,
    publisher TEXT NOT NULL,
    epoch UUID NOT NULL,
    next_offset BIGINT NOT NULL,
    position BIGINT NOT NULL,
    adopts BOOLEAN NOT NULL,
    PRIMARY KEY (topic, part)
);
CREATE INDEX kafka_offset_publisher ON kafka_offset (publisher);
-- How far the outbox has been sent to Kafka, by shard of aggregates; what is not sent is not purged while a relay is wanted.
CREATE TABLE kafka_relay (
    shard BIGINT NOT NULL PRIMARY KEY,
    upto BIGINT NOT NULL,
    wanted BOOLEAN NOT NULL
);
