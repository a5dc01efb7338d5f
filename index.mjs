// The package's ESM entry: the same objects as the CommonJS one, by name.
import registry from './index.js';

export const {
  SmartRegistry,
  AuthManager,
  RegistryStorage,
  DefaultAuthProvider,
  StaticUpstreamProvider,
  UpstreamCache,
  CircuitBreaker,
  OciRegistry,
  NpmRegistry,
  MavenRegistry,
  CargoRegistry,
  ComposerRegistry,
  PypiRegistry,
  RubyGemsRegistry,
  streamToBuffer,
  streamToJson,
  toReadableStream,
  isReadableStream,
  RegistryError,
} = registry;
