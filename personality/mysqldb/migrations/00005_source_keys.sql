-- +goose Up
-- The keys with which sources sign their events (package pubstore).
CREATE TABLE IF NOT EXISTS prooftrail_source_key (
  id         VARBINARY(64) NOT NULL PRIMARY KEY,
  source_key MEDIUMBLOB NOT NULL -- JSON
) ENGINE=InnoDB;
