// Packages that the snippets name and that have no types here.
declare module 'express' {
  const express: any;
  export default express;
}
declare module '@push.rocks/smartstorage' {
  export const SmartStorage: any;
}
declare module '@push.rocks/smartregistry' {
  export * from 'smartregistry-native';
}
