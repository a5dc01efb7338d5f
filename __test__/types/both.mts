// An ES module that requires the package too: the classes are the same, to the compiler as well.
import { RegistryError, SmartRegistry } from 'smartregistry-native';
import required = require('smartregistry-native');

const one: SmartRegistry = new required.SmartRegistry({ storage: { type: 'memory' } });
const other: required.SmartRegistry = new SmartRegistry({ storage: { type: 'memory' } });
const classes: (typeof SmartRegistry)[] = [required.SmartRegistry, SmartRegistry];
const error: RegistryError = new required.RegistryError('x');
void [one, other, classes, error];
