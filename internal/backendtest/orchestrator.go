package backendtest

var orchestratorTests []test
