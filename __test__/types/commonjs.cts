// A CommonJS program.
import registry = require('smartregistry-native');

const made: registry.SmartRegistry = new registry.SmartRegistry({ storage: { type: 'memory' } });
const config: registry.IRegistryInput = { storage: { bucketName: 'b' } };
void [made, config];
