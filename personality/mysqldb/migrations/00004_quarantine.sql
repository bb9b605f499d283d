-- +goose Up
-- What came in and the log hasn't taken (package pubstore, Quarantine). Items are long at times, and
-- a packet isn't: they are stored in pieces.

CREATE TABLE IF NOT EXISTS prooftrail_quarantine (
  id     VARBINARY(64) NOT NULL PRIMARY KEY,
  tenant VARBINARY(128) NOT NULL,
  meta   MEDIUMBLOB NOT NULL, -- JSON
  KEY prooftrail_quarantine_by_tenant (tenant, id)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS prooftrail_quarantine_piece (
  id    VARBINARY(64) NOT NULL,
  n     INT UNSIGNED NOT NULL, -- from 0
  piece MEDIUMBLOB NOT NULL,
  PRIMARY KEY (id, n)
) ENGINE=InnoDB;

-- How much each tenant has. Its row is locked by who adds or drops.
CREATE TABLE IF NOT EXISTS prooftrail_quarantine_size (
  tenant VARBINARY(128) NOT NULL PRIMARY KEY,
  items  BIGINT NOT NULL,
  bytes  BIGINT NOT NULL
) ENGINE=InnoDB;
