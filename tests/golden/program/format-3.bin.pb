producer: "mace-cl 0.1.0"
engine: "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
model {
  name: "tiny"
  sha256: "abababababababababababababababababababababababababababababababab"
}
options {
  name: "precision"
  value: "float32"
}
options {
  name: "layout"
  value: "nchw8c"
}
sections {
  kind: KIND_SOURCE
  offset: 1856
  length: 32
  crc32: 3264000065
  sha256: "1230504b162ed48b0deb76c22dd33cd33ec3626513c2803650fa7ea98b360c4c"
}
sections {
  kind: KIND_SOURCE
  offset: 1920
  length: 26
  crc32: 414223290
  sha256: "7b02e83e90ed89b010a6a6d3feec458be80b00fde9fb73ecb055771d63dfb711"
}
sections {
  kind: KIND_BINARY
  offset: 1984
  length: 17
  crc32: 4245956460
  sha256: "e48b5993c369883583b21425514a10f62e1e9d2c8f1dfc38581750c1ce270942"
}
sections {
  kind: KIND_BINARY
  offset: 2048
  length: 13
  crc32: 704538457
  sha256: "4a055b89c68b197dc9b9c4af3d71c15e886342db35c7fa130c296a6f61e08366"
}
sections {
  kind: KIND_CONSTANTS
  offset: 4096
  length: 5000
  crc32: 1521616699
  sha256: "08026c57be31084b60ded63e3101c86365be4d84b87b43bad97b3feb8152e20f"
}
targets {
  signature {
    vendor: "Any Vendor"
    device: "AnyCL CPU"
    driver: "3.1"
    platform: "AnyCL"
    platform_version: "OpenCL 3.0 AnyCL 3.1"
    device_version: "OpenCL 3.0"
    c_version: "OpenCL C 1.2"
    properties {
      name: "compute_units"
      value: "2"
    }
    properties {
      name: "local_memory"
      value: "524288"
    }
  }
  schedule {
    arena_bytes: 8192
    constant_bytes: 5000
    build_options: "-cl-std=CL1.2"
    inputs {
      name: "image"
      dtype: "float32"
      shape: 1
      shape: 3
      shape: 16
      shape: 16
    }
    outputs {
      name: "probabilities"
      dtype: "float32"
      shape: 1
      shape: 10
      slot: 1
    }
    kernels {
      name: "conv_0"
      family: "conv2d"
      parameters {
        name: "tile"
        value: 28
      }
      parameters {
        name: "rows"
        value: -1
      }
    }
    kernels {
      name: "pool_1"
      family: "pool"
      source: 1
    }
    slots {
      space: SPACE_ARENA
      size: 3072
    }
    slots {
      space: SPACE_ARENA
      size: 40
    }
    slots {
      space: SPACE_CONSTANTS
      size: 4000
    }
    slots {
      space: SPACE_CONSTANTS
      offset: 4096
      size: 904
    }
    slots {
      space: SPACE_ARENA
      offset: 3072
      size: 4096
    }
    launches {
      global_size: 16
      global_size: 8
      global_size: 1
      local_size: 1
      local_size: 1
      local_size: 1
      args: 0
      args: 2
      args: 3
      args: 4
      node: "conv1"
      flops: 123456
    }
    launches {
      kernel: 1
      global_size: 64
      global_size: 1
      global_size: 1
      local_size: 64
      local_size: 1
      local_size: 1
      args: 4
      args: 1
      node: "pool1+softmax"
    }
  }
  units {
    kernels: 0
    binary: 2
    bond: "u^<\026l\263\326\260\332\324\277\244\372\314p\375n\215\303#b\334\200 \372\013\006\005@\217\251T"
  }
  units {
    kernels: 1
    binary: 3
    bond: "\n\"\246\260\2630\374\310\203\021\347DG\250{\001\t\371\277\247a(\021\201\352t\276\270\202\312\201\247"
  }
  constants: 4
  provenance {
    name: "tuning"
    value: "default parameters"
  }
}
targets {
  signature {
    vendor: "Any Vendor"
    device: "OtherCL GPU"
    driver: "26.2"
    platform: "AnyCL"
    platform_version: "OpenCL 3.0 AnyCL 3.1"
    device_version: "OpenCL 3.0"
    c_version: "OpenCL C 1.2"
    properties {
      name: "compute_units"
      value: "2"
    }
    properties {
      name: "local_memory"
      value: "524288"
    }
  }
  schedule {
    arena_bytes: 8192
    constant_bytes: 5000
    build_options: "-cl-std=CL1.2"
    inputs {
      name: "image"
      dtype: "float32"
      shape: 1
      shape: 3
      shape: 16
      shape: 16
    }
    outputs {
      name: "probabilities"
      dtype: "float32"
      shape: 1
      shape: 10
      slot: 1
    }
    kernels {
      name: "conv_0"
      family: "conv2d"
      parameters {
        name: "tile"
        value: 28
      }
      parameters {
        name: "rows"
        value: -1
      }
    }
    kernels {
      name: "pool_1"
      family: "pool"
      source: 1
    }
    slots {
      space: SPACE_ARENA
      size: 3072
    }
    slots {
      space: SPACE_ARENA
      size: 40
    }
    slots {
      space: SPACE_CONSTANTS
      size: 4000
    }
    slots {
      space: SPACE_CONSTANTS
      offset: 4096
      size: 904
    }
    slots {
      space: SPACE_ARENA
      offset: 3072
      size: 4096
    }
    launches {
      global_size: 16
      global_size: 8
      global_size: 1
      local_size: 1
      local_size: 1
      local_size: 1
      args: 0
      args: 2
      args: 3
      args: 4
      node: "conv1"
      flops: 123456
    }
    launches {
      kernel: 1
      global_size: 64
      global_size: 1
      global_size: 1
      local_size: 64
      local_size: 1
      local_size: 1
      args: 4
      args: 1
      node: "pool1+softmax"
    }
  }
  units {
    kernels: 0
  }
  units {
    kernels: 1
    binary: 3
    bond: "\232\215/\333\225\1772[\372\014)\354\300)\314y\214\337!l|1\224\013\206\272\271\365^\016\202\034"
  }
  constants: 4
}
