DROP FUNCTION cyclonetix__state.at_revision(bigint);
DROP TABLE cyclonetix__state.file_arrivals;
DROP INDEX cyclonetix__state.definitions_listening;
