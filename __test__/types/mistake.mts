// A program that must not compile: without one, types that were lost on the way would pass for good.
import { SmartRegistry } from 'smartregistry-native';

new SmartRegistry({ storage: { type: 'memory' } }).noSuchMethod();
