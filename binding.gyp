{ 'includes': ['bindings.gyp'] }
