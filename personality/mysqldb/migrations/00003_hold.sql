-- +goose Up
-- Why nothing may be published on the head; empty: it may.
ALTER TABLE prooftrail_head ADD COLUMN hold VARBINARY(4096) NOT NULL DEFAULT '';
